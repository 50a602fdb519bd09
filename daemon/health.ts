/**
 * The verdict: one word and one line that say whether the box does its job. It follows progress through the
 * pipeline, never the event loop (G11). Waiting for a named outside cause is not a hang.
 */
import type { ConfigurationFigures } from './status.ts'
import { LANES, type Lane, type OutboxState, type SourceState } from './ports.ts'

export type VerdictState = 'ok' | 'starting' | 'buffering' | 'blocked' | 'degraded' | 'stuck' | 'stopping'

export interface Verdict {
  readonly state: VerdictState
  /** One line for a person, without the state's name. */
  readonly line: string
  readonly reason?: string
  readonly remedy?: string
  /** Wall ms since when the cause has stood. */
  readonly sinceMs?: number
}

/** What the verdict needs to know of the relay. */
export interface RelayFigures {
  readonly phase: string
  /** Why nothing flows, in plain words; absent while it flows. */
  readonly reason?: string
  /** The phase that met the reason. */
  readonly waitsIn?: string
  readonly remedy?: string
  readonly sinceMs: number
  /** False until Kafka has answered for the first time since the start. */
  readonly heard?: boolean
  /** Monotonic ms of the last confirmed progress: a committed transaction, or a look that found nothing to send. */
  readonly lastProgressMs: number
  /** The running transaction may take this long before it counts as stuck. */
  readonly patienceMs: number
  /** A phase that waits for Kafka seldom takes longer. */
  readonly slowMs?: number
  /** Lanes that wait while others may flow, and why. */
  readonly held?: Readonly<Partial<Record<Lane, { readonly reason: string; readonly remedy?: string | undefined }>>>
}

export interface VerdictInput {
  readonly wallMs: number
  readonly monotonicMs: number
  readonly phase: 'starting' | 'running' | 'stopping'
  readonly sources: readonly SourceState[]
  readonly outbox: OutboxState
  /** Monotonic ms of the last durable commit, or of the last instant with nothing in flight. */
  readonly lastCommitMs: number
  readonly relay: RelayFigures
  /** Messages that limits dropped (evicted, expired, above a limit, QoS 0) since the relay's reason stands. */
  readonly dropped: number
  /** Layers of the configuration that are not valid here; they stand in the status with the reasons. */
  readonly layersLeftOut?: readonly string[]
  /** The page or the metrics, whose port is taken. */
  readonly partsWaiting?: NonNullable<ConfigurationFigures['waiting']>
  /** What a person must mend in the patch path; messages flow all the same. */
  readonly patchTrouble?: Verdict | undefined
}

/** With deliveries in flight and room in the buffer, a commit must come within this time. */
const COMMIT_PATIENCE_MS = 30_000

export function verdictOf(input: VerdictInput): Verdict {
  if (input.phase === 'starting') return { state: 'starting', line: 'opening the buffer and the listeners' }
  if (input.phase === 'stopping') return { state: 'stopping', line: 'finishing accepted work' }
  return (
    stuck(input) ??
    blocked(input) ??
    waiting(input) ??
    silent(input) ??
    unheard(input) ??
    laneWaits(input) ??
    degraded(input) ??
    input.patchTrouble ??
    flowing(input)
  )
}

/** `/readyz`: the pipeline accepts deliveries now. */
export function isReady(verdict: Verdict): boolean {
  return verdict.state === 'ok' || verdict.state === 'buffering' || verdict.state === 'degraded'
}

/** `/healthz`: nothing is stuck; a restart would not help. */
export function isHealthy(verdict: Verdict): boolean {
  return verdict.state !== 'stuck'
}

function stuck(input: VerdictInput): Verdict | undefined {
  const { outbox, relay, monotonicMs } = input
  const commitAge = monotonicMs - input.lastCommitMs
  if (outbox.inFlight.messages > 0 && outbox.blockedReason === undefined && commitAge > COMMIT_PATIENCE_MS) {
    return {
      state: 'stuck',
      line: `the buffer has committed nothing for ${duration(commitAge)}; ${outbox.inFlight.messages} deliveries wait unacknowledged`,
      reason: 'no commit',
      remedy: 'restart the service; if it comes again, check the disk with `dmesg`',
      sinceMs: input.wallMs - commitAge,
    }
  }
  const relayAge = monotonicMs - relay.lastProgressMs
  const mayMove = LANES.some((lane) => outbox.lanes[lane].messages > 0 && relay.held?.[lane] === undefined)
  if (relay.reason === undefined && mayMove && relayAge > relay.patienceMs) {
    return {
      state: 'stuck',
      line: `nothing was forwarded for ${duration(relayAge)}, and no outside cause is known`,
      reason: `relay: ${relay.phase}`,
      remedy: 'restart the service, and keep its journal',
      sinceMs: input.wallMs - relayAge,
    }
  }
  return undefined
}

function blocked(input: VerdictInput): Verdict | undefined {
  const { outbox, relay } = input
  if (outbox.blockedReason === undefined) return undefined
  const cause = relay.reason === undefined ? '' : `; ${relay.reason}`
  return {
    state: 'blocked',
    line: `${outbox.blockedReason}${cause}; devices wait, nothing acknowledged is lost`,
    reason: outbox.blockedReason,
    remedy:
      relay.remedy ??
      (outbox.blockedReason.includes('minFreeBytes')
        ? 'free disk space: `df -h` shows which disk, `du -xhd1 DIR` what takes it'
        : relay.reason === undefined
          ? 'raise buffer.maxBytes'
          : 'bring Kafka back, or raise buffer.maxBytes'),
  }
}

function waiting(input: VerdictInput): Verdict | undefined {
  const { relay, wallMs, dropped } = input
  if (relay.reason === undefined) return undefined
  // What a failed attempt says is for the line below; the reason of an alarm is the cause itself.
  const cause = relay.waitsIn === 'backing-off' ? 'Kafka unreachable' : relay.reason
  const loss = dropped === 0 ? 'no loss' : `${dropped} messages dropped by the limits`
  return {
    state: 'buffering',
    line: `${cause} since ${clockTime(relay.sinceMs)} (${duration(wallMs - relay.sinceMs)}), ${loss}`,
    reason: relay.reason,
    ...(relay.remedy === undefined ? {} : { remedy: relay.remedy }),
    sinceMs: relay.sinceMs,
  }
}

/** Phases that end with an answer of Kafka's. */
const AWAITS_KAFKA: ReadonlySet<string> = new Set(['opening', 'reading-back', 'sending'])

/** A link that looks connected and carries nothing is said long before the client's own timeouts find it. */
function silent({ outbox, relay, wallMs }: VerdictInput): Verdict | undefined {
  const forMs = wallMs - relay.sinceMs
  const waits = backlog(outbox)
  if (waits === 0 || !AWAITS_KAFKA.has(relay.phase) || forMs <= (relay.slowMs ?? Infinity)) return undefined
  return {
    state: 'buffering',
    line: `Kafka has confirmed nothing for ${duration(forMs)}, ${waits} messages wait`,
    reason: 'Kafka is slow to answer, or silent',
    sinceMs: relay.sinceMs,
  }
}

/** After a start nobody knows that messages reach Kafka until it has answered: an ok could be taken back at once. */
function unheard({ outbox, relay, wallMs }: VerdictInput): Verdict | undefined {
  if (relay.heard !== false) return undefined
  return {
    state: 'buffering',
    line: `Kafka has not answered since the start (${duration(wallMs - relay.sinceMs)}), ${backlog(outbox)} messages wait`,
    reason: 'Kafka has not answered yet',
    sinceMs: relay.sinceMs,
  }
}

/** That other lanes flow must not hide it. */
function laneWaits({ outbox, relay }: VerdictInput): Verdict | undefined {
  const lane = LANES.find((name) => relay.held?.[name] !== undefined && outbox.lanes[name].messages > 0)
  const held = lane && relay.held?.[lane]
  if (lane === undefined || held === undefined) return undefined
  const { reason, remedy } = held
  return {
    state: 'degraded',
    line: `${reason}: ${outbox.lanes[lane].messages} messages of the ${lane} lane wait, no loss`,
    reason,
    ...(remedy === undefined ? {} : { remedy }),
  }
}

function degraded(input: VerdictInput): Verdict | undefined {
  const down = input.sources.filter((source) => source.state !== 'up')
  const first = down[0]
  if (first === undefined) return partWaits(input) ?? layerLeftOut(input.layersLeftOut ?? [])
  const rest = down.length > 1 ? `, and ${down.length - 1} more` : ''
  return {
    state: 'degraded',
    line: `mqtt.${first.kind}.${first.name} is ${first.state}: ${first.reason ?? 'no reason known'}${rest}`,
    reason: first.reason ?? first.state,
    sinceMs: first.sinceMs,
  }
}

function partWaits({ partsWaiting: [first, ...others] = [] }: VerdictInput): Verdict | undefined {
  if (first === undefined) return undefined
  const { name, reason, remedy, sinceMs } = first
  const rest = others.map((one) => `, nor ${one.name}`).join('')
  return {
    state: 'degraded',
    line: `${name} is not there${rest}: ${reason}; messages flow`,
    reason,
    ...(remedy === undefined ? {} : { remedy }),
    sinceMs,
  }
}

function layerLeftOut(labels: readonly string[]): Verdict | undefined {
  if (labels.length === 0) return undefined
  return {
    state: 'degraded',
    line: `settings that are not valid here are left out: ${labels.join(', ')}; messages flow`,
    reason: 'a layer of the configuration is not valid',
    remedy: '`edgectl config show` says why; mend the file, or take the patch back',
  }
}

function flowing(input: VerdictInput): Verdict {
  const waitingMessages = backlog(input.outbox)
  const line =
    waitingMessages === 0 ? 'all delivered' : `forwarding, ${waitingMessages} ${waitingMessages === 1 ? 'message' : 'messages'} buffered`
  return { state: 'ok', line }
}

export function backlog(outbox: OutboxState): number {
  return Object.values(outbox.lanes).reduce((sum, lane) => sum + lane.messages, 0)
}

/** `3 h 10 min`, `42 s`: two units at most. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1_000))
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  if (hours < 48) return `${hours} h ${minutes % 60} min`
  return `${Math.floor(hours / 24)} d ${hours % 24} h`
}

/** `14:02`, local time of the box. */
function clockTime(wallMs: number): string {
  const at = new Date(wallMs)
  return `${String(at.getHours()).padStart(2, '0')}:${String(at.getMinutes()).padStart(2, '0')}`
}
