/**
 * `mqtt.connect`: a persistent session on a broker that is already there.
 *
 * What the broker has for us it keeps until we acknowledge it, and we acknowledge when the message's fate is
 * durable here. A connection may therefore end at any instant: the broker sends again what it got no answer for.
 * The device's own acknowledgement comes from the broker, though, and is as durable as the broker is.
 */
import type { Clock, Random } from '../../daemon/clock.ts'
import { GatewayError } from '../../daemon/errors.ts'
import type { DevicePublisher, Intake, Log, Source, SourceState } from '../../daemon/ports.ts'
import { Attempts, DEFAULT_RETRY } from './connect-attempts.ts'
import type { RetryPolicy } from './connect-attempts.ts'
import { InFlight } from './connect-delivery.ts'
import { ConnectDevices } from './connect-devices.ts'
import { CLOSE_GRACE_MS, Link } from './connect-link.ts'
import type { LinkEnd } from './connect-link.ts'
import { ProgramMemory, SessionBook } from './connect-memory.ts'
import type { SessionMemory } from './connect-memory.ts'
import { Notices } from './connect-notices.ts'
import { Session } from './connect-session.ts'
import { checkSettings } from './connect-settings.ts'
import type { BrokerAddress, CheckedSettings, ConnectFilter, ConnectSettings } from './connect-settings.ts'
import { readSecrets } from './connect-stream.ts'
import { failureWords, suspicionWords } from './connect-words.ts'

export interface MqttConnectionOptions {
  /** Name of the connection in the config. */
  readonly name: string
  readonly settings: ConnectSettings
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Over restarts; without it, old subscriptions and a session lost meanwhile go unnoticed. */
  readonly memory?: SessionMemory
  readonly retry?: RetryPolicy
}

/** Longest time that a held connection stays open, ms; less with a short keepalive. */
const HOLD_MAX_MS = 10_000
/** So many accepted connections in a row that the broker closed soon, without a word: most likely a rival. */
const SUSPICIOUS_CLOSES = 3
const STOPPED = 'stopped'
const ignore = (): void => undefined

export class MqttConnection implements Source {
  readonly name: string
  readonly #options: MqttConnectionOptions
  readonly #settings: CheckedSettings
  readonly #retry: RetryPolicy
  readonly #attempts: Attempts
  readonly #inFlight: InFlight
  readonly #book: SessionBook
  readonly #notices: Notices
  readonly #session: Session
  readonly #devices: ConnectDevices
  #intake: Intake = { offer: ignore }
  #running: Promise<void> | undefined
  #stopped: Promise<void> | undefined
  #heldFor: string | undefined
  #cancelHold = ignore
  #link: Link | undefined
  /** The current link, once it is accepted and subscribed. */
  #served: Link | undefined
  /** What the current link lacks, though messages flow. */
  #shortfall: string | undefined
  #soonClosed = 0
  #lastReason = ''
  #wake = ignore
  #state: Pick<SourceState, 'state' | 'reason' | 'sinceMs'>

  /** Throws a fatal `GatewayError` for settings that can't work, a shared subscription among them. */
  constructor(options: MqttConnectionOptions) {
    const { name, clock, log } = options
    this.name = name
    this.#options = options
    this.#settings = checkSettings(name, options.settings)
    this.#retry = options.retry ?? DEFAULT_RETRY
    this.#attempts = new Attempts(this.#settings.brokers.length, this.#retry, options.random)
    this.#inFlight = new InFlight(this.#settings.inFlight)
    this.#book = new SessionBook(options.memory ?? new ProgramMemory(), name, log)
    this.#notices = new Notices(name, clock, log)
    this.#devices = new ConnectDevices(name, {
      clock,
      deviceOf: options.settings.deviceOf,
      complain: (fields, message) => log.warn({ source: name, ...fields }, message),
      onTopics: () => this.#changeAnswers(),
    })
    const answers = (): readonly string[] => this.#devices.filters
    this.#session = new Session({ name, settings: this.#settings, book: this.#book, notices: this.#notices, log, answers })
    this.#state = { state: 'down', reason: 'not started', sinceMs: clock.wallMs() }
  }

  /** Resolves when it begins to connect: a broker that is down never stops the daemon. */
  async start(intake: Intake, signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw new GatewayError('transient', `mqtt.connect.${this.name}: the start was given up`)
    this.#intake = this.#devices.before(intake)
    if (this.#heldFor === undefined) this.#setState('connecting', `connecting to ${this.#settings.brokers[0]?.url}`)
    this.#running = this.#run()
  }

  /** Settings for the devices behind the broker. */
  get devices(): DevicePublisher {
    return this.#devices
  }

  hold(reason: string): void {
    if (this.#stopped !== undefined) return
    const isFirst = this.#heldFor === undefined
    this.#heldFor = reason
    this.#setState('held', reason)
    const link = this.#link
    link?.pause()
    if (!isFirst || link === undefined) return
    const patienceMs = Math.min(HOLD_MAX_MS, link.keepaliveMs / 2)
    this.#cancelHold = this.#options.clock.after(patienceMs, () => link.close(reason))
  }

  release(): void {
    if (this.#heldFor === undefined || this.#stopped !== undefined) return
    this.#heldFor = undefined
    this.#cancelHold()
    this.#attempts.reset()
    this.#link?.resume()
    if (this.#served?.isOpen === true) this.#serve()
    else this.#setState('connecting', 'connecting again after a pause')
    this.#wake()
  }

  state(): SourceState {
    const connections = this.#served === undefined ? 0 : 1
    return { name: this.name, kind: 'connect', ...this.#state, connections, answers: this.#devices.counts(), notices: this.#notices.list() }
  }

  stop(deadlineMs: number): Promise<void> {
    this.#stopped ??= this.#stop(deadlineMs)
    return this.#stopped
  }

  async #stop(deadlineMs: number): Promise<void> {
    this.#cancelHold()
    const link = this.#link
    if (link !== undefined) {
      link.pause()
      const { clock } = this.#options
      const { promise, resolve } = Promise.withResolvers<void>()
      const cancel = clock.after(deadlineMs - clock.monotonicMs(), resolve)
      await Promise.race([link.drained(), promise])
      cancel()
      link.close(STOPPED, Math.max(CLOSE_GRACE_MS, deadlineMs - clock.monotonicMs()))
    }
    this.#wake()
    await this.#running
    this.#setState('down', STOPPED)
  }

  get #isAway(): boolean {
    return this.#stopped !== undefined || this.#heldFor !== undefined
  }

  async #run(): Promise<void> {
    await this.#book.load()
    while (this.#stopped === undefined) {
      if (this.#heldFor !== undefined) {
        await this.#rest(undefined)
        continue
      }
      const { broker, delayMs } = this.#attempts.next()
      if (delayMs > 0) await this.#rest(delayMs)
      const address = this.#settings.brokers[broker]
      if (!this.#isAway && address !== undefined) await this.#visit(address)
    }
  }

  /** Waits for `#wake`, at most `ms`. */
  #rest(ms: number | undefined): Promise<void> {
    return new Promise((resolve) => {
      const cancel = ms === undefined ? ignore : this.#options.clock.after(ms, resolve)
      this.#wake = () => {
        cancel()
        resolve()
      }
    })
  }

  /** One connection, from the first packet to its end. */
  async #visit(broker: BrokerAddress): Promise<void> {
    const link = await this.#open(broker)
    if (typeof link === 'string') return this.#ended(broker, { reason: link, cause: 'fault' }, undefined)
    const { clock } = this.#options
    this.#link = link
    await this.#join(link).catch(ignore) // the link ended meanwhile, and `closed` tells why
    const sinceMs = this.#served === undefined ? undefined : clock.monotonicMs()
    const end = await link.closed
    this.#link = this.#served = undefined
    this.#devices.connected(undefined)
    this.#ended(broker, end, sinceMs === undefined ? undefined : clock.monotonicMs() - sinceMs)
  }

  /** A link, or why there is none. */
  async #open(broker: BrokerAddress): Promise<Link | string> {
    const session = this.#session
    try {
      const secrets = await readSecrets(this.#settings)
      if (this.#isAway) return STOPPED
      return new Link(
        {
          name: this.name,
          settings: this.#settings,
          clock: this.#options.clock,
          inFlight: this.#inFlight,
          offer: (delivery) => this.#intake.offer(delivery),
          takesRetained: (topic) => session.takesRetained(topic),
          readOwnTopic: (topic, payload) => session.readOwnTopic(broker.url, topic, payload),
        },
        broker,
        secrets,
      )
    } catch (error) {
      return error instanceof GatewayError ? error.message : failureWords(error, broker)
    }
  }

  async #join(link: Link): Promise<void> {
    const { clock } = this.#options
    const { attemptMs, stableMs } = this.#retry
    const { url } = link.broker
    const cancel = clock.after(attemptMs, () => link.fail(`${url} does not answer: no connection within ${attemptMs / 1_000} s`))
    const accepted = await link.open().finally(cancel)
    this.#session.begin(url, accepted)
    this.#watchProgress(link)
    await this.#subscribe(link)
    clock.after(stableMs, () => {
      if (this.#served !== link) return
      this.#lastReason = ''
      void this.#session.establish(url)
    })
    void this.#session.watchDrops(link)
  }

  /**
   * The broker first sends what the session holds, so SUBACK may be a long time away, on a thin line or behind a
   * message that waits for room. Only a broker that sends nothing at all is given up.
   */
  #watchProgress(link: Link, seen = 0): void {
    const { attemptMs } = this.#retry
    this.#options.clock.after(attemptMs, () => {
      if (this.#served === link || !link.isOpen) return
      if (link.taken === seen && !link.isWaiting) link.fail(`${link.broker.url} does not answer: no SUBACK within ${attemptMs / 1_000} s`)
      else this.#watchProgress(link, link.taken)
    })
  }

  async #subscribe(link: Link, again?: readonly ConnectFilter[]): Promise<void> {
    const { refused, reasons } = await this.#session.subscribe(link, again)
    const wanted = this.#settings.filters.length
    const reason = `${link.broker.url} refuses ${refused.length} of ${wanted} subscriptions: ${reasons.join(', ')}`
    if (refused.length === wanted) return link.fail(reason)
    this.#served = link
    this.#devices.connected(link)
    this.#changeAnswers()
    this.#shortfall = refused.length === 0 ? undefined : reason
    this.#serve()
    const { log } = this.#options
    const fields = { source: this.name, broker: link.broker.url }
    if (refused.length === 0) return log.info(fields, 'connected to the MQTT broker and subscribed')
    if (again === undefined) log.warn({ ...fields, reason }, 'connected to the MQTT broker, but it refuses subscriptions')
    // The others do flow. A rule at the broker may change: ask again now and then.
    this.#options.clock.after(this.#retry.maxMs, () => {
      if (this.#link === link) void this.#subscribe(link, refused).catch(ignore) // it ended meanwhile: see #visit
    })
  }

  #changeAnswers(): void {
    if (this.#served !== undefined) void this.#session.changeAnswers(this.#served).catch(ignore) // it ended: the next one subscribes
  }

  #serve(): void {
    if (this.#heldFor !== undefined) return
    if (this.#shortfall === undefined) this.#setState('up')
    else this.#setState('connecting', this.#shortfall)
  }

  /** `livedMs` is undefined when it was never up. */
  #ended(broker: BrokerAddress, end: LinkEnd, livedMs: number | undefined): void {
    if (end.cause === 'ours') this.#attempts.reset()
    else this.#attempts.ended(livedMs ?? 0)
    if (this.#isAway || end.cause === 'ours') return
    const reason = this.#suspect(broker, end, livedMs)
    this.#setState(livedMs === undefined ? 'down' : 'connecting', reason)
    const fields = { source: this.name, broker: broker.url, failures: this.#attempts.failures, reason }
    this.#options.log[reason === this.#lastReason ? 'debug' : 'warn'](fields, 'no connection to the MQTT broker')
    this.#lastReason = reason
  }

  /** Two clients with one id throw each other out for ever. */
  #suspect(broker: BrokerAddress, end: LinkEnd, livedMs: number | undefined): string {
    const isSoon = end.cause === 'broker' && livedMs !== undefined && livedMs < this.#retry.stableMs
    this.#soonClosed = isSoon ? this.#soonClosed + 1 : 0
    const isRival = this.#soonClosed >= SUSPICIOUS_CLOSES
    const reason = isRival ? suspicionWords(this.#settings.clientId, broker) : end.reason
    if (isRival || end.cause === 'taken-over') this.#notices.add('taken-over', 1, () => reason)
    return reason
  }

  #setState(state: SourceState['state'], reason?: string): void {
    const sinceMs = state === this.#state.state ? this.#state.sinceMs : this.#options.clock.wallMs()
    this.#state = reason === undefined ? { state, sinceMs } : { state, reason, sinceMs }
  }
}
