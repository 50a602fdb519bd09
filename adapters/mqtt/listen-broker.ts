import {
  Aedes,
  type AedesPublishPacket,
  type AuthenticateError,
  type AuthenticateHandler,
  type Client,
  type ConnectPacket,
  type PublishPacket,
} from 'aedes'
import type { DeviceSetting } from '../../daemon/ports.ts'
import { matches } from './connect-filters.ts'
import { Bridge } from './listen-bridge.ts'
import type { Connection } from './listen-connection.ts'
import { Sessions } from './listen-sessions.ts'
import './packet-numbers.ts'
import type { RetainedTree } from './retained-tree.ts'

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
  /** Judged for each message, since a filter may reach further than its owner's settings, and rules change. */
  mayReceive(connection: Connection, topic: string): boolean
  /** CONNACK went out. */
  ready(connection: Connection): void
  failed(error: Error): void
}

/** setInterval takes 31 bits, and the broker multiplies by four. Its heartbeat is for clusters, which we have none of. */
const NEVER_MS = 500_000_000

/**
 * aedes, for what it is good at: CONNECT and CONNACK, takeover by client id, subscriptions, wills. It never sees a
 * PUBLISH of a device, nor a keepalive (both live in `Connection`), and it stores nothing. What it sends to devices are
 * the gateway's settings.
 */
export class Broker {
  readonly #rules: BrokerRules
  readonly #settings: RetainedTree
  readonly #aedes: Aedes

  constructor(rules: BrokerRules, settings: RetainedTree, sessionsMax: number) {
    this.#rules = rules
    this.#settings = settings
    this.#aedes = new Aedes({
      persistence: new Sessions(sessionsMax, settings),
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
      authorizeForward: (client, packet) => this.#forwarded(client, packet),
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

  /** To all who have subscribed already. Who comes later finds it in the settings. */
  forward({ topic, payload }: DeviceSetting): void {
    this.#aedes.publish(packetOf(topic, payload), () => undefined)
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
    const connection = connectionOf(client)
    if (connection === undefined) return
    connection.begin()
    this.#rules.ready(connection)
    if (!client.clean) this.#catchUp(client)
  }

  /** A session that goes on is owed what changed while its device was away (3.1.1 section 4.1): the settings as they are. */
  #catchUp(client: Client): void {
    const filters = Object.keys(subscriptionsOf(client))
    for (const { topic, payload } of new Set(filters.flatMap((filter) => [...this.#settings.matching(filter)]))) {
      client.publish(packetOf(topic, payload), () => undefined)
    }
  }

  /** The broker lowers the QoS to the subscription's only where filter and topic are the same text (3.8.4). */
  #forwarded(client: Client, packet: AedesPublishPacket): AedesPublishPacket | null {
    const connection = connectionOf(client)
    if (connection === undefined || !this.#rules.mayReceive(connection, packet.topic)) return null
    const granted = Object.entries(subscriptionsOf(client)).filter(([filter]) => matches(filter, packet.topic))
    const isCertain = packet.qos > 0 && granted.some(([, { qos }]) => qos > 0)
    return { ...packet, qos: isCertain ? 1 : 0 }
  }
}

/** The broker keeps them on its client, and does not say so in its types (read in 1.2: lib/handlers/subscribe.js). */
function subscriptionsOf(client: Client): Readonly<Record<string, { readonly qos: number }>> {
  return (client as Client & { readonly subscriptions: Readonly<Record<string, { readonly qos: number }>> }).subscriptions
}

function packetOf(topic: string, payload: Uint8Array): PublishPacket {
  return { cmd: 'publish', qos: 1, dup: false, retain: false, topic, payload: Buffer.from(payload) }
}

function connectionOf(client: Client | null): Connection | undefined {
  return client?.conn instanceof Bridge ? (client.conn as Bridge<Connection>).connection : undefined
}
