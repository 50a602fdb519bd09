/**
 * Holds what Kafka shows against what must be there: each position of an epoch and lane once, but for those that the box
 * knows to have left in another way. Pure; memory is a bit for each position.
 */
import { DEVICE_LANES, type DeviceLane, type EpochId, type Gap, type Lane } from '../ports.ts'
import { PositionSet, without, type Range } from './positions.ts'

/** One record of the gateway as it was read. */
export interface SeenRecord {
  readonly topic: string
  readonly partition: number
  readonly epoch: EpochId
  readonly lane: Lane
  readonly position: number
  readonly device: string
}

export interface Duplicate {
  readonly position: number
  readonly device: string
}

export interface LaneVerdict {
  readonly epoch: EpochId
  readonly lane: DeviceLane
  readonly first: number
  readonly last: number
  readonly records: number
  /** Nobody can say where they are. */
  readonly missing: readonly Range[]
  readonly missingCount: number
  readonly duplicates: readonly Duplicate[]
  readonly duplicateCount: number
  /** By reason. */
  readonly explained: Readonly<Record<string, number>>
  /** They may be in what Kafka no longer shows, or what was not read. */
  readonly unproven: number
}

export interface Question {
  readonly gaps: readonly Gap[]
  /** Next position, by epoch. */
  readonly committed: ReadonlyMap<EpochId, ReadonlyMap<Lane, number>>
  /** `<topic>/<partition>` whose beginning was not read: deleted by Kafka, or before `--since`. */
  readonly cut: ReadonlySet<string>
  readonly epoch: EpochId | undefined
}

const LISTED_MAX = 100
const NAMES = new Set<string>(DEVICE_LANES)

interface Track {
  readonly epoch: EpochId
  readonly lane: DeviceLane
  readonly positions: PositionSet
  /** First position seen in each partition. */
  readonly firsts: Map<string, number>
  readonly duplicates: Duplicate[]
  duplicateCount: number
}

export class Judge {
  readonly #tracks = new Map<string, Track>()
  records = 0

  /** The gateway's own records have a lane that is not looked at: one of its topics keeps only the newest. */
  add(record: SeenRecord): void {
    if (!NAMES.has(record.lane)) return
    this.records += 1
    const track = this.#track(record.epoch, record.lane as DeviceLane)
    const { position, device } = record
    const place = `${record.topic}/${record.partition}`
    const first = track.firsts.get(place)
    if (first === undefined || position < first) track.firsts.set(place, position)
    if (track.positions.add(position)) return
    track.duplicateCount += 1
    if (track.duplicates.length < LISTED_MAX) track.duplicates.push({ position, device })
  }

  get epochs(): ReadonlySet<EpochId> {
    return new Set([...this.#tracks.values()].map(({ epoch }) => epoch))
  }

  verdicts(question: Question): LaneVerdict[] {
    for (const [epoch, lanes] of question.committed)
      for (const [lane, next] of lanes) if (next > 1 && NAMES.has(lane)) this.#track(epoch, lane as DeviceLane)
    const all = [...this.#tracks.values()]
      .map((track) => verdictOf(track, question))
      .filter(({ last }) => last > 0)
      .sort((a, b) => (a.lane === b.lane ? a.first - b.first : DEVICE_LANES.indexOf(a.lane) - DEVICE_LANES.indexOf(b.lane)))
    return all
      .map((verdict, index) => joined(verdict, all[index - 1], question.gaps))
      .filter(({ epoch }) => question.epoch === undefined || question.epoch === epoch)
  }

  #track(epoch: EpochId, lane: DeviceLane): Track {
    const key = `${epoch}/${lane}`
    const known = this.#tracks.get(key)
    if (known !== undefined) return known
    const track: Track = { epoch, lane, positions: new PositionSet(), firsts: new Map(), duplicates: [], duplicateCount: 0 }
    this.#tracks.set(key, track)
    return track
  }
}

function verdictOf(track: Track, { gaps, committed, cut }: Question): LaneVerdict {
  const { epoch, lane, positions, duplicates, duplicateCount } = track
  const own = gaps.filter((gap) => gap.epoch === epoch && gap.lane === lane)
  const next = committed.get(epoch)?.get(lane) ?? 1
  const last = Math.max(positions.highest, next - 1)
  // An epoch's own first position is known only from what is left of it.
  const first = Math.min(positions.lowest, ...own.map((gap) => gap.first), last)
  const provenFrom = provenStart(track, cut)
  const missing: Range[] = []
  const explained: Record<string, number> = {}
  let missingCount = 0
  let unproven = 0
  for (const hole of positions.missing(first, last)) {
    const open = without(hole, own)
    for (const gap of own) {
      const length = Math.min(gap.last, hole.last) - Math.max(gap.first, hole.first) + 1
      if (length > 0) explained[gap.reason] = (explained[gap.reason] ?? 0) + length
    }
    for (const range of open) {
      const from = Math.max(range.first, provenFrom)
      unproven += Math.min(range.last + 1, Math.max(range.first, provenFrom)) - range.first
      if (from > range.last) continue
      missingCount += range.last - from + 1
      if (missing.length < LISTED_MAX) missing.push({ first: from, last: range.last })
    }
  }
  // What left behind the last record: an export took the end of an epoch.
  for (const gap of own) {
    const length = gap.last - Math.max(gap.first - 1, last)
    if (length > 0) explained[gap.reason] = (explained[gap.reason] ?? 0) + length
  }
  return { epoch, lane, first, last, records: positions.size, missing, missingCount, duplicates, duplicateCount, explained, unproven }
}

/** A lane's positions go on over epochs: what lies between two of them is in none that was seen. */
function joined(verdict: LaneVerdict, before: LaneVerdict | undefined, gaps: readonly Gap[]): LaneVerdict {
  if (before?.lane !== verdict.lane || before.last + 1 >= verdict.first) return verdict
  const between = { first: before.last + 1, last: verdict.first - 1 }
  const open = without(
    between,
    gaps.filter(({ lane }) => lane === verdict.lane),
  )
  return { ...verdict, unproven: open.reduce((sum, { first, last }) => sum + last - first + 1, verdict.unproven) }
}

/**
 * A partition's order is that of positions. So what is missing below the first position that a partition shows may have
 * stood in the part of it that was not read; of a partition that shows none, all may.
 */
function provenStart({ firsts }: Track, cut: ReadonlySet<string>): number {
  return Math.max(1, ...[...cut].map((place) => firsts.get(place) ?? Infinity))
}

export function isProven(verdicts: readonly LaneVerdict[]): boolean {
  return verdicts.every(({ missingCount, duplicateCount }) => missingCount === 0 && duplicateCount === 0)
}
