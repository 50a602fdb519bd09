import { ReturnCode, type Authenticator, type Proven } from './listen-auth.ts'
import type { ConnectRequest, Denial } from './listen-broker.ts'
import type { Connection } from './listen-connection.ts'
import type { Refusal, Tally } from './listen-counters.ts'
import type { Exchanges } from './listen-exchanges.ts'

const CLIENT_ID_CHARS_MAX = 1_024

/**
 * Who has which client id. The broker closes the older connection of two (3.1.1 section 3.1.4); here it is decided
 * whether the newer one may come in at all.
 */
export class Claims {
  readonly #max: number
  readonly #auth: Authenticator
  readonly #tally: Tally
  readonly #exchanges: Exchanges
  readonly #turnedAway: (names: readonly string[], detail: string) => void
  readonly #byClientId = new Map<string, Connection>()

  constructor(
    connectionsMax: number,
    auth: Authenticator,
    tally: Tally,
    exchanges: Exchanges,
    turnedAway: (names: readonly string[], detail: string) => void = () => undefined,
  ) {
    this.#turnedAway = turnedAway
    this.#max = connectionsMax
    this.#auth = auth
    this.#tally = tally
    this.#exchanges = exchanges
  }

  get size(): number {
    return this.#byClientId.size
  }

  /** `undefined` when the client may come in: its connection has the client id then. */
  async admit(connection: Connection, request: ConnectRequest): Promise<Denial | undefined> {
    const { clientId, username, password } = request
    const early = this.#refuseEarly(connection, request)
    if (early !== undefined) return early
    const proof = await this.#auth.prove({ clientId, username, password, commonName: connection.commonName })
    if (connection.ending !== undefined) return { returnCode: ReturnCode.SERVER_UNAVAILABLE, detail: 'it is gone' }
    if ('returnCode' in proof) return this.#deny(connection, request, 'bad-credentials', proof)
    // Decided again after the wait: others have come in.
    const full = this.#refuseFull(connection, request)
    if (full !== undefined) return full
    const holder = this.#byClientId.get(clientId)
    if (holder !== undefined && holder.device?.identity !== proof.identity) {
      const detail = `client id ${JSON.stringify(clientId.slice(0, 64))} is in use by another identity`
      return this.#deny(connection, request, 'client-id-taken', { returnCode: ReturnCode.IDENTIFIER_REJECTED, detail })
    }
    this.#give(connection, request, proof)
    return undefined
  }

  leave(connection: Connection): void {
    const clientId = connection.device?.clientId
    if (clientId !== undefined && this.#byClientId.get(clientId) === connection) this.#byClientId.delete(clientId)
  }

  #give(connection: Connection, { clientId, username, clean }: ConnectRequest, { identity, credential }: Proven): void {
    const holder = this.#byClientId.get(clientId)
    holder?.expectEnd('taken-over')
    // The broker closes it in a moment; until then nothing may come in for the session that ends here.
    holder?.drain()
    this.#byClientId.set(clientId, connection)
    // One client id in the hands of two identities is two sessions: neither can end the other's exchanges.
    const session = identity === undefined || identity === clientId ? clientId : `${identity}\0${clientId}`
    if (clean) this.#exchanges.discard(session)
    connection.device = { clientId, username, identity, session, clean }
    connection.credential = credential
    this.#tally.connects++
  }

  #refuseEarly(connection: Connection, request: ConnectRequest): Denial | undefined {
    const { clientId, anonymous, clean } = request
    const badId = (detail: string): Denial =>
      this.#deny(connection, request, 'bad-client-id', { returnCode: ReturnCode.IDENTIFIER_REJECTED, detail })
    if (anonymous && !clean) return badId('a persistent session needs a client id')
    if (clientId.length > CLIENT_ID_CHARS_MAX || clientId.includes('\0'))
      return badId(`a client id with U+0000, or of more than ${CLIENT_ID_CHARS_MAX} characters`)
    return this.#refuseFull(connection, request)
  }

  #refuseFull(connection: Connection, request: ConnectRequest): Denial | undefined {
    // Who takes over its own half-open connection needs no new place.
    if (this.#byClientId.size < this.#max || this.#byClientId.has(request.clientId)) return undefined
    const detail = `all ${this.#max} connections are in use`
    return this.#deny(connection, request, 'max-connections', { returnCode: ReturnCode.SERVER_UNAVAILABLE, detail })
  }

  #deny(connection: Connection, { clientId, username }: ConnectRequest, refusal: Refusal, denial: Denial): Denial {
    this.#tally.refuse(refusal, denial.detail, connection.peer)
    this.#turnedAway([clientId, ...[username, connection.commonName].filter((name) => name !== undefined)], denial.detail)
    return denial
  }
}
