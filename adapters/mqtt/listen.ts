import type { Socket } from 'node:net'
import type { Clock } from '../../daemon/clock.ts'
import { messageOf } from '../../daemon/errors.ts'
import type { DeviceLinks, DevicePublisher, Intake, Log, PasswordsTaken, Source, SourceState } from '../../daemon/ports.ts'
import { Authenticator, ReturnCode } from './listen-auth.ts'
import { Broker } from './listen-broker.ts'
import { Budget } from './listen-budget.ts'
import { Claims } from './listen-claims.ts'
import { Connection, type ConnectionOwner } from './listen-connection.ts'
import { Tally, type Ending, type ListenCounters, type Refusal } from './listen-counters.ts'
import { HELD_MAX_MS, overdue, pause } from './listen-deadlines.ts'
import { ListenDevices, readRule } from './listen-devices.ts'
import { Exchanges, type ExchangeStore } from './listen-exchanges.ts'
import { Fullness } from './listen-fullness.ts'
import { Gate } from './listen-gate.ts'
import type { InboundShared } from './listen-inbound.ts'
import { addressOf, type ListenSettings } from './listen-settings.ts'
import { stillTrusted } from './tls-chain.ts'
import { sameBytes as same, tlsFiles, type TlsMaterial } from './tls.ts'
import type { WatchedFiles } from './tls-files.ts'

export interface MqttListenerOptions {
  readonly name: string
  readonly settings: ListenSettings
  readonly exchanges: ExchangeStore
  readonly clock: Clock
  readonly log: Log
  readonly links?: DeviceLinks
}

const SWEEP_MS = 250
/** What a peer has to read our last words before the socket is destroyed. */
const LINGER_MS = 2_000
/** Sockets beyond `maxConnections`: enough to tell the next ones that it is full, in words. */
const SPARE_SOCKETS = 128
const CONNECT_BYTES_MAX = 16_384
const STOP_POLL_MS = 20

/** `mqtt.listen`: the gateway's own MQTT 3.1.1 endpoint. A device's PUBACK says that its message is durable. */
export class MqttListener implements Source {
  readonly name: string
  readonly #options: MqttListenerOptions
  readonly #tally: Tally
  readonly #auth: Authenticator
  readonly #budget: Budget
  readonly #exchanges: Exchanges
  readonly #connections = new Set<Connection>()
  readonly #fullness = new Fullness()
  readonly #claims: Claims
  readonly #devices: ListenDevices
  readonly #toFlush: Connection[] = []
  #tls: WatchedFiles<TlsMaterial> | undefined
  #broker: Broker | undefined
  #gate: Gate | undefined
  #owner: ConnectionOwner | undefined
  #cancelSweep: (() => void) | undefined
  #stopping: Promise<void> | undefined
  #serving = false
  #status: { readonly state: SourceState['state']; readonly reason?: string; readonly sinceMs: number }

  constructor(options: MqttListenerOptions) {
    const { name, settings, clock, log } = options
    this.name = name
    this.#options = options
    this.#tally = new Tally(name, clock, log)
    this.#auth = new Authenticator(name, settings.auth, clock, log)
    this.#budget = new Budget(settings.inFlightBytes)
    this.#devices = new ListenDevices(name, this.#tally, readRule(this.#auth, settings.allowSubscribe), options.links)
    this.#exchanges = new Exchanges(options.exchanges)
    const turnedAway = (names: readonly string[], detail: string): void => options.links?.turnedAway(name, names, detail)
    this.#claims = new Claims(settings.maxConnections, this.#auth, this.#tally, this.#exchanges, turnedAway)
    this.#status = { state: 'down', reason: 'not started', sinceMs: clock.wallMs() }
  }

  async start(intake: Intake, signal: AbortSignal): Promise<void> {
    try {
      await this.#open(intake, signal)
    } catch (error) {
      await this.#closeAll()
      throw error
    }
    this.#serving = true
    this.#showFullness()
    this.#sweepLater()
  }

  /** The TCP port in use. */
  get port(): number {
    return this.#gate?.port ?? 0
  }

  /** Settings for the devices of this listener. */
  get devices(): DevicePublisher {
    return this.#devices
  }

  readonly connectionsOf = (device: string): number => this.#devices.connectionsOf(device)

  hold(reason: string): void {
    if (this.#stopping !== undefined) return
    this.#fullness.begin(reason, this.#options.clock.monotonicMs())
    this.#showFullness()
  }

  release(): void {
    if (this.#fullness.full === undefined || this.#stopping !== undefined) return
    // Told first: who is released may fill the gateway again at once.
    if (this.#serving) this.#setState('up')
    this.#fullness.end()
  }

  state(): SourceState {
    const { refused } = this.#tally.view()
    const answers = this.#devices.answers.counts()
    return { name: this.name, kind: 'listen', ...this.#status, connections: this.#claims.size, refused, answers, notices: [] }
  }

  counters(): ListenCounters {
    return this.#tally.view()
  }

  rereadPasswords(): Promise<PasswordsTaken | undefined> {
    return this.#auth.rereadPasswords(() => this.#tally.view().ended.revoked ?? 0)
  }

  stop(deadlineMs: number): Promise<void> {
    this.#stopping ??= this.#drain(deadlineMs)
    return this.#stopping
  }

  async #open(intake: Intake, signal: AbortSignal): Promise<void> {
    const { name, settings, clock, log } = this.#options
    const address = addressOf(name, settings)
    if (settings.tls !== undefined) this.#tls = tlsFiles(`the certificate of listener ${name}`, settings.tls, clock, log)
    const material = await this.#tls?.load()
    await this.#auth.load(() => this.#cutRevoked())
    this.#owner = this.#makeOwner(intake)
    this.#broker = this.#makeBroker()
    await this.#broker.start()
    this.#devices.forward = (setting) => this.#broker?.forward(setting)
    this.#gate = new Gate({
      address,
      clock,
      tally: this.#tally,
      connectsPerSecond: settings.connectsPerSecond,
      socketsMax: settings.maxConnections + SPARE_SOCKETS,
      requireClientCert: settings.tls?.requireClientCert ?? false,
      enter: (socket, commonName) => this.#enter(socket, commonName),
    })
    this.#tls?.onChange((now, before) => this.#renewTls(now, before))
    signal.throwIfAborted()
    await this.#gate.open(material)
    signal.throwIfAborted()
  }

  #makeOwner(intake: Intake): ConnectionOwner {
    const { settings, clock, name } = this.#options
    const auth = this.#auth
    const shared: InboundShared = {
      source: name,
      intake: this.#devices.before(intake, this.#tally),
      budget: this.#budget,
      exchanges: this.#exchanges,
      tally: this.#tally,
      limits: settings.inFlightPerConnection,
      publishGrant: (device, topic) => auth.publishGrant(device, topic),
      get accessVersion() {
        return auth.accessVersion
      },
    }
    return {
      clock,
      shared,
      frameLimits: { packetBytesMax: settings.maxPacketBytes, connectBytesMax: CONNECT_BYTES_MAX },
      connectCame: (connection, frame) => this.#connectCame(connection, frame),
      ended: (connection, reason, detail) => this.#ended(connection, reason, detail),
      gone: (connection) => {
        this.#connections.delete(connection)
        this.#fullness.forget(connection)
      },
      heldBack: (connection) => this.#fullness.wait(connection),
      isHeld: () => this.#fullness.full !== undefined,
      flushLater: (connection) => this.#flushLater(connection),
    }
  }

  #makeBroker(): Broker {
    const { settings, log, name } = this.#options
    return new Broker(
      {
        admit: (connection, request) => this.#claims.admit(connection, request),
        wrongVersion: (connection, version) => {
          connection.expectEnd('refused')
          this.#tally.refuse('protocol-version', `it speaks MQTT protocol level ${version}, this listener 4 (3.1.1)`, connection.peer)
        },
        maySubscribe: ({ device }, filter) => device !== undefined && this.#devices.maySubscribe(device, filter),
        mayReceive: ({ device }, topic) => device !== undefined && this.#devices.mayReceive(device, topic),
        ready: (connection) => this.#devices.came(connection),
        failed: (error) => log.error({ listener: name, reason: messageOf(error) }, 'the MQTT broker library reports an error'),
      },
      this.#devices.settings,
      settings.maxConnections * 2,
    )
  }

  #enter(socket: Socket, commonName: string | undefined): void {
    if (this.#owner === undefined || this.#stopping !== undefined) return void socket.destroy()
    const connection = new Connection(this.#owner, socket, commonName)
    this.#connections.add(connection)
    connection.open()
    // Unread at first: the fullness may pass before the device's patience does. Later ones are told.
    if (this.#status.state !== 'held') return
    connection.hold()
    this.#fullness.wait(connection)
  }

  #connectCame(connection: Connection, frame: Buffer): void {
    const { full } = this.#fullness
    if (full !== undefined) this.#turnAway(connection, 'held', full.reason)
    else if (this.#stopping !== undefined) this.#turnAway(connection, 'stopping', 'the gateway stops')
    else this.#broker?.take(connection, frame)
  }

  /** CONNACK 3, "server unavailable", without asking the broker. */
  #turnAway(connection: Connection, refusal: Refusal, detail: string): void {
    this.#tally.refuse(refusal, detail, connection.peer)
    connection.write(Buffer.from([0x20, 2, 0, ReturnCode.SERVER_UNAVAILABLE]))
    connection.end('refused')
  }

  #ended(connection: Connection, reason: Ending, detail: string | undefined): void {
    this.#tally.end(reason, detail, connection.peer)
    this.#devices.left(connection, reason)
    this.#claims.leave(connection)
  }

  #flushLater(connection: Connection): void {
    if (this.#toFlush.push(connection) === 1) setImmediate(() => this.#flush())
  }

  /** One write per connection for all that a commit has settled. */
  #flush(): void {
    for (const connection of this.#toFlush.splice(0)) connection.flush()
    this.#budget.wake()
  }

  #sweepLater(): void {
    this.#cancelSweep = this.#options.clock.after(SWEEP_MS, () => {
      this.#sweep()
      this.#sweepLater()
    })
  }

  #sweep(): void {
    const nowMs = this.#options.clock.monotonicMs()
    const { full } = this.#fullness
    if (full !== undefined && nowMs - full.sinceMs > HELD_MAX_MS && this.#status.state === 'held') {
      this.#setState('refusing', full.reason)
      this.#fullness.turnAway()
    }
    let heldBytes = 0
    for (const connection of this.#connections) {
      this.#judge(connection, nowMs)
      heldBytes += connection.heldBytes
    }
    if (heldBytes > this.#options.settings.inFlightBytes) this.#evict(heldBytes)
  }

  #judge(connection: Connection, nowMs: number): void {
    if (connection.endedMs !== undefined) {
      if (nowMs - connection.endedMs > LINGER_MS) connection.socket.destroy()
      return
    }
    const over = overdue(connection, nowMs, this.#options.settings.keepaliveMaxSeconds, this.#fullness.full)
    if (over !== undefined) connection.end(over.reason, over.detail)
  }

  /** Incomplete packets, and what paused sockets had read already, are beyond the limit: the largest go. */
  #evict(heldBytes: number): void {
    let excess = heldBytes - this.#options.settings.inFlightBytes
    for (const connection of [...this.#connections].sort((a, b) => b.heldBytes - a.heldBytes)) {
      if (excess <= 0) return
      excess -= connection.heldBytes
      connection.end('over-budget', 'too many bytes of incomplete or unread packets')
      connection.socket.destroy()
    }
  }

  #cutRevoked(): void {
    for (const connection of this.#connections) {
      if (!this.#auth.stillValid(connection.device?.username, connection.credential))
        connection.end('revoked', 'its password was changed or removed')
    }
  }

  #renewTls(now: TlsMaterial, before: TlsMaterial): void {
    this.#gate?.renew(now)
    if (same(now.ca, before.ca) && same(now.crl, before.crl)) return
    const trusted = stillTrusted(now)
    for (const connection of this.#connections) {
      if (!trusted(connection.socket)) connection.end('revoked', 'its certificate was revoked, or its CA is not trusted any more')
    }
  }

  async #drain(deadlineMs: number): Promise<void> {
    const { clock } = this.#options
    this.#setState('down', 'stopping')
    this.#gate?.close()
    for (const connection of this.#connections) connection.drain()
    while (clock.monotonicMs() < deadlineMs && this.#owed()) await pause(clock, STOP_POLL_MS)
    this.#flush()
    for (const connection of this.#connections) connection.end('stopped')
    const lingerMs = Math.min(deadlineMs, clock.monotonicMs() + LINGER_MS)
    while (clock.monotonicMs() < lingerMs && this.#connections.size > 0) await pause(clock, STOP_POLL_MS)
    await this.#closeAll()
    this.#setState('down', 'stopped')
  }

  /** True while an acknowledgement may still come. */
  #owed(): boolean {
    return [...this.#connections].some(({ owed }) => owed)
  }

  async #closeAll(): Promise<void> {
    this.#cancelSweep?.()
    this.#gate?.close()
    this.#tls?.close()
    this.#auth.close()
    for (const { socket } of this.#connections) socket.destroy()
    await this.#broker?.stop()
  }

  #showFullness(): void {
    const { full } = this.#fullness
    if (!this.#serving) return
    if (full === undefined) this.#setState('up')
    else this.#setState(this.#status.state === 'refusing' ? 'refusing' : 'held', full.reason)
  }

  #setState(state: SourceState['state'], reason?: string): void {
    const sinceMs = this.#status.state === state ? this.#status.sinceMs : this.#options.clock.wallMs()
    this.#status = { state, sinceMs, ...(reason === undefined ? {} : { reason }) }
  }
}
