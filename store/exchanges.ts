/**
 * QoS 2 exchanges whose PUBREL has not come (MQTT 3.1.1, 4.3.3), as `<client id>\0<packet id>`.
 *
 * A client can't have more than 65,535 of them, but many clients can die in the middle. At the limit the
 * client that has the most gives up its oldest, so that one client's leftovers never cost another's promise.
 */
const MAX_EXCHANGES = 300_000

export class Exchanges {
  readonly #byClient = new Map<string, Set<string>>()
  readonly #limit: number
  #size = 0

  constructor(limit = MAX_EXCHANGES) {
    this.#limit = limit
  }

  get size(): number {
    return this.#size
  }

  has(exchange: string): boolean {
    return this.#byClient.get(clientOf(exchange))?.has(exchange) ?? false
  }

  /** Returns the exchanges that were given up for it; they must be forgotten on the disk too. */
  add(exchange: string): string[] {
    const client = clientOf(exchange)
    const own = this.#byClient.get(client) ?? new Set<string>()
    this.#byClient.set(client, own)
    if (own.has(exchange)) return []
    own.add(exchange)
    this.#size++
    return this.#size > this.#limit ? this.#giveUp() : []
  }

  delete(exchange: string): void {
    const client = clientOf(exchange)
    const own = this.#byClient.get(client)
    if (own === undefined || !own.delete(exchange)) return
    this.#size--
    if (own.size === 0) this.#byClient.delete(client)
  }

  /** Half of the largest client's, so that the search for it is rare. */
  #giveUp(): string[] {
    let largest = new Set<string>()
    for (const own of this.#byClient.values()) if (own.size > largest.size) largest = own
    const given = [...largest].slice(0, Math.ceil(largest.size / 2))
    for (const exchange of given) this.delete(exchange)
    return given
  }
}

function clientOf(exchange: string): string {
  const end = exchange.indexOf('\0')
  return end < 0 ? exchange : exchange.slice(0, end)
}
