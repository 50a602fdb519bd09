/**
 * The relay: takes what the outbox holds to Kafka, each message once. Its loop makes one producer's life after the
 * other, and waits in between as the failure of the last one demands; `forwarder.ts` is what happens in a life.
 */
import type { Clock, Random } from '../clock.ts'
import type { Component } from '../component.ts'
import type { Kafka, KafkaTimeouts, Log, OutboxReader, OutboxWriter } from '../ports.ts'
import { Backoff } from './backoff.ts'
import { LinkFailure } from './failure.ts'
import { Forwarder, sayClockHolds } from './forwarder.ts'
import { Link, patienceMs } from './link.ts'
import { Pace, type PaceSettings } from './pace.ts'
import type { RelaySettings } from './settings.ts'
import { Board, type RelayState } from './state.ts'
import { judgeTopic, positionsTopic } from './topics.ts'
import { TopicTemplate } from './topic-template.ts'
import { Wake } from './wake.ts'

export interface RelayPorts {
  readonly outbox: OutboxReader
  /** Takes notices of dead letters into the internal lane. */
  readonly internal: Pick<OutboxWriter, 'submitInternal'>
  /** `undefined`: no broker is named. */
  readonly kafka: Kafka | undefined
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

/** Why nothing may leave this box, and what a person should do. */
export interface RelayHold {
  readonly reason: string
  readonly remedy: string
}

const ALARM_MS = 30_000
/** Being fenced again within this time means that somebody else lives under our id. */
const FENCED_AGAIN_MS = 10 * 60_000
const FENCED_MS = 30_000
const LOOK_MS = 1_000
/** So many times what a transaction should take, and Kafka is slow or silent. */
const SLOW_TARGETS = 3

export class Relay implements Component {
  readonly name = 'relay'
  readonly ended: Promise<never>
  readonly #ports: RelayPorts
  readonly #board: Board
  readonly #pace: Pace
  readonly #forwarder: Forwarder
  /** Rings when the outbox has something new, or on a command. */
  readonly #news: Wake
  /** Rings on a command only: news must not shorten a backoff. */
  readonly #commands: Wake
  readonly #backoff: Backoff
  readonly #refusedBackoff: Backoff
  readonly #fencedBackoff: Backoff
  /** Aborts when the running transaction must be given up. */
  readonly #abandon = new AbortController()
  /** Aborts when a life that has no running transaction must end. */
  #leave = new AbortController()
  #settings: RelaySettings
  #kafka: Kafka | undefined
  #stopping = false
  #hold: RelayHold | undefined
  #fencedMs = -Infinity
  /** Of the life that is. */
  #timeouts: KafkaTimeouts | undefined
  #running: Promise<void> | undefined
  #unsubscribe: (() => void) | undefined
  #die: (error: unknown) => void = () => undefined

  constructor(ports: RelayPorts, settings: RelaySettings) {
    const { clock, random, log, outbox, internal } = ports
    this.#ports = ports
    this.#settings = settings
    this.#kafka = ports.kafka
    this.#board = new Board(clock, log)
    this.#pace = new Pace(paceOf(settings))
    this.#news = new Wake(clock)
    this.#commands = new Wake(clock)
    this.#backoff = new Backoff(100, 30_000, random)
    this.#refusedBackoff = new Backoff(20, 1_000, random)
    this.#fencedBackoff = new Backoff(1_000, 300_000, random)
    this.#forwarder = new Forwarder(
      {
        outbox,
        clock,
        board: this.#board,
        pace: this.#pace,
        news: this.#news,
        submitInternal: (record) => internal.submitInternal(record),
      },
      settings,
    )
    this.ended = new Promise((_, reject) => {
      this.#die = reject
    })
    // The supervisor may look later than it dies.
    this.ended.catch(() => undefined)
  }

  /** Ready at once: an unreachable Kafka is waited for, not an error. */
  async start(_signal: AbortSignal): Promise<void> {
    this.#unsubscribe = this.#ports.outbox.onAppend(() => this.#news.ring())
    this.#running = this.#run().catch((error: unknown) => this.#die(error))
  }

  /** Finishes the running transaction, and tells the outbox, so that nothing is sent again; no new one begins. */
  async stop(deadlineMs: number): Promise<void> {
    this.#stopping = true
    this.#reopen()
    const cancel = this.#ports.clock.after(deadlineMs - this.#ports.clock.monotonicMs(), () => this.#abandon.abort())
    await this.#running
    cancel()
    this.#unsubscribe?.()
    this.#unsubscribe = undefined
  }

  /** New settings hold from the next transaction on. Throws a `GatewayError`, and changes nothing, if they can't. */
  configure(settings: RelaySettings): void {
    this.#forwarder.configure(settings)
    this.#pace.configure(paceOf(settings))
    const before = this.#settings
    this.#settings = settings
    if (before.prefix !== settings.prefix || before.delivery !== settings.delivery || before.topic !== settings.topic) this.#reopen()
    else this.#ring()
  }

  /** From the next transaction on another cluster, or the same with other addresses or credentials. */
  connectTo(kafka: Kafka | undefined): void {
    this.#kafka = kafka
    this.#reopen()
  }

  /** Nothing is sent from the next transaction on, until `undefined` comes; everything is buffered. */
  hold(why: RelayHold | undefined): void {
    const before = this.#hold
    this.#hold = why
    if (before?.reason !== why?.reason) this.#reopen()
  }

  state(): RelayState {
    const timeouts = [this.#pace.timeouts(), ...(this.#timeouts === undefined ? [] : [this.#timeouts])]
    const targetMs = this.#pace.targetMs()
    const patience = { slowMs: SLOW_TARGETS * targetMs, patienceMs: Math.max(...timeouts.map(patienceMs)) + targetMs }
    return this.#board.state(this.#forwarder.isIdle, patience, this.#pace.bytesPerSecond())
  }

  // ------------------------------------------------------------- the loop

  async #run(): Promise<void> {
    while (!this.#stopping) {
      const kafka = this.#kafka
      const leave = this.#leave.signal
      if (this.#hold !== undefined) await this.#stand(this.#hold)
      else if (kafka === undefined) await this.#idle()
      else if (this.#forwarder.clockHolds) await this.#holdForClock()
      else {
        const failure = await this.#live(kafka, leave)
        if (failure !== undefined && !leave.aborted) await this.#wait(failure)
      }
    }
    this.#board.enter('stopped')
  }

  async #idle(): Promise<void> {
    this.#board.enter('idle')
    this.#board.trouble('no Kafka broker is named', 'set kafka.brokers')
    await this.#commands.sleep()
  }

  async #stand({ reason, remedy }: RelayHold): Promise<void> {
    this.#board.enter('holding')
    this.#board.trouble(reason, remedy)
    await this.#commands.sleep()
  }

  async #holdForClock(): Promise<void> {
    sayClockHolds(this.#board, this.#ports.clock)
    await this.#commands.sleep(LOOK_MS)
  }

  /** One producer's life, from InitProducerId to close. Returns why it ended; `undefined` if it was asked to. */
  async #live(kafka: Kafka, leave: AbortSignal): Promise<LinkFailure | undefined> {
    this.#board.enter('opening')
    let link: Link | undefined
    const beganMs = this.#ports.clock.monotonicMs()
    try {
      link = await this.#open(kafka, leave)
      await this.#checkTopics(link)
      this.#pace.resumed(this.#ports.clock.monotonicMs() - this.#board.lastProgressMs)
      await this.#forwarder.run(link, () => !leave.aborted)
      return undefined
    } catch (error) {
      if (!(error instanceof LinkFailure)) throw error
      return error
    } finally {
      if (this.#board.lastProgressMs > beganMs) this.#resetBackoffs()
      await link?.close()
    }
  }

  #open(kafka: Kafka, leave: AbortSignal): Promise<Link> {
    const timeouts = this.#pace.timeouts()
    this.#timeouts = timeouts
    return Link.open(kafka, {
      timeouts,
      clock: this.#ports.clock,
      leave,
      abandon: this.#abandon.signal,
      noteAnswer: (ms) => this.#pace.asked(ms),
    })
  }

  /** What must be right before anything is sent is said at once, not at the first message. */
  async #checkTopics(link: Link): Promise<void> {
    const settings = this.#settings
    const only = new TopicTemplate(settings.topic, settings.allowedTopics).only
    const topics = [...(settings.delivery === 'exactly-once' ? [positionsTopic(settings)] : []), ...(only === undefined ? [] : [only])]
    for (const topic of topics) {
      const facts = await link.learn(topic, (known) => judgeTopic(topic, known, settings))
      if ('wrong' in facts) throw facts.wrong
    }
  }

  // ------------------------------------------------------------- after a failure

  async #wait(failure: LinkFailure): Promise<void> {
    switch (failure.class) {
      case 'refused': {
        this.#board.enter('backing-off')
        return this.#commands.sleep(this.#refusedBackoff.nextMs())
      }
      case 'transient':
        return this.#waitOut('backing-off', failure.message, failure, this.#backoff.nextMs())
      case 'alarm':
        return this.#waitOut('alarmed', failure.message, failure, ALARM_MS * (1 + this.#ports.random.unit() / 2))
      case 'fenced':
        return this.#waitFenced(failure)
    }
  }

  /** Two boxes with one id would fence each other without end: both slow down, and say it. */
  async #waitFenced(failure: LinkFailure): Promise<void> {
    const nowMs = this.#ports.clock.monotonicMs()
    const again = nowMs - this.#fencedMs < FENCED_AGAIN_MS
    this.#fencedMs = nowMs
    if (!again) return this.#waitOut('backing-off', failure.message, failure, this.#backoff.nextMs())
    const { gatewayId, prefix, isGuest } = this.#settings
    if (isGuest === true) {
      const reason = `the gateway "${gatewayId}" itself is online, or another box delivers the same import: they take turns at Kafka`
      return this.#waitOut('fenced', reason, failure, this.#fencedBackoff.nextMs(), 'wait: each message arrives once all the same')
    }
    const reason = `another gateway uses the id "${gatewayId}" (it fenced our producer "${prefix}.${gatewayId}" at Kafka)`
    const remedy = 'give each box its own gateway.id; while another box delivers an export of this one, only wait'
    await this.#waitOut('fenced', reason, failure, FENCED_MS + this.#fencedBackoff.nextMs(), remedy)
  }

  async #waitOut(
    phase: 'backing-off' | 'alarmed' | 'fenced',
    reason: string,
    failure: LinkFailure,
    ms: number,
    remedy = failure.remedy,
  ): Promise<void> {
    this.#board.enter(phase)
    this.#board.trouble(reason, remedy, failure)
    await this.#commands.sleep(ms)
  }

  #resetBackoffs(): void {
    this.#backoff.reset()
    this.#refusedBackoff.reset()
  }

  #reopen(): void {
    this.#leave.abort()
    if (!this.#stopping) this.#leave = new AbortController()
    this.#ring()
  }

  #ring(): void {
    this.#commands.ring()
    this.#news.ring()
  }
}

function paceOf({ transaction, uplinkBytesPerSecond }: RelaySettings): PaceSettings {
  return { ...transaction, uplinkBytesPerSecond }
}
