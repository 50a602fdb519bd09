import { Aedes, type AuthenticateError, type AuthenticateHandler, type Client, type ConnectPacket } from 'aedes'
import { Bridge } from './listen-bridge.ts'
import type { Connection } from './listen-connection.ts'
import { Sessions } from './listen-sessions.ts'
import './packet-numbers.ts'

/** What a client said in its CONNECT, as far as the broker does not judge it by itself. */
export interface ConnectRequest {
  /** As sent, or the one that the broker made up for an empty one. */
  readonly clientId: string
  readonly anonymous: boolean
  readonly clean: boolean
  readonly username: string | undefined
  readonly password: Buffer | undefined
}

export interface Denial {
  readonly returnCode: number
  readonly detail: string
}

export interface BrokerRules {
  /** `undefined` when the client may come in: `connection.device` is set then. Never rejects. */
  admit(connection: Connection, request: ConnectRequest): Promise<Denial | undefined>
  wrongVersion(connection: Connection, version: number): void
  maySubscribe(connection: Connection, filter: string): boolean
  failed(error: Error): void
}

/** setInterval takes 31 bits, and the broker multiplies by four. Its heartbeat is for clusters, which we have none of. */
const NEVER_MS = 500_000_000

/**
 * aedes, for what it is good at: CONNECT and CONNACK, takeover by client id, subscriptions, wills. It never sees a
 * PUBLISH, nor a keepalive (both live in `Connection`), and it stores nothing.
 */
export class Broker {
  readonly #rules: BrokerRules
  readonly #aedes: Aedes

  constructor(rules: BrokerRules, sessionsMax: number) {
    this.#rules = rules
    this.#aedes = new Aedes({
      persistence: new Sessions(sessionsMax),
      heartbeatInterval: NEVER_MS,
      maxClientsIdLength: 65_535,
      preConnect: (client, packet, done) => this.#preConnect(client, packet, done),
      authenticate: (client, username, password, done) => this.#authenticate(client, username, password, done),
      authorizePublish: (client, packet, done) => {
        // Only wills come this way. They are ours now: the error keeps the broker from routing them.
        connectionOf(client)?.offerWill(packet.topic, Buffer.from(packet.payload), packet.qos, packet.retain)
        done(new Error('offered'))
      },
      authorizeSubscribe: (client, subscription, done) => {
        const connection = connectionOf(client)
        const allowed = connection !== undefined && rules.maySubscribe(connection, subscription.topic)
        done(null, allowed ? subscription : null)
      },
    })
    this.#aedes.on('clientReady', (client: Client) => this.#ready(client))
  }

  async start(): Promise<void> {
    // Without a listener an 'error' of the broker would end the daemon.
    ;(this.#aedes as NodeJS.EventEmitter).on('error', (error: Error) => this.#rules.failed(error))
    await this.#aedes.listen()
  }

  /** Hands a connection and its CONNECT over; `connection.begin` follows, or its end. */
  take(connection: Connection, frame: Buffer): void {
    this.#aedes.handle(connection.openBridge(frame))
  }

  stop(): Promise<void> {
    return new Promise((resolve) => this.#aedes.close(() => resolve()))
  }

  #preConnect(client: Client, packet: ConnectPacket, done: (error: Error | null, successful: boolean) => void): void {
    const connection = connectionOf(client)
    if (connection === undefined) return done(new Error('gone'), false)
    const version = packet.protocolVersion ?? 4
    if (version !== 3 && version !== 4) this.#rules.wrongVersion(connection, version)
    connection.keepaliveSeconds = packet.keepalive ?? 0
    // The broker's own timer would count packets that it never sees.
    packet.keepalive = 0
    connection.anonymous = packet.clientId === ''
    done(null, true)
  }

  #authenticate(
    client: Client,
    username: string | undefined,
    password: Buffer | undefined,
    done: Parameters<AuthenticateHandler>[3],
  ): void {
    const connection = connectionOf(client)
    if (connection === undefined) return
    const request = { clientId: client.id, anonymous: connection.anonymous, clean: client.clean, username, password }
    void this.#rules.admit(connection, request).then((denial) => {
      if (denial === undefined) return done(null, true)
      connection.expectEnd('refused')
      const error: AuthenticateError = Object.assign(new Error(denial.detail), { returnCode: denial.returnCode })
      done(error, false)
    })
  }

  #ready(client: Client): void {
    connectionOf(client)?.begin()
  }
}

function connectionOf(client: Client | null): Connection | undefined {
  return client?.conn instanceof Bridge ? (client.conn as Bridge<Connection>).connection : undefined
}
