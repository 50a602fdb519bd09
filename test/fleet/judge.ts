/**
 * Holds what devices published and got acknowledged against what Kafka shows. A message is known by its topic's
 * last part, the id that its device gave it: `<device>-<sequence>`.
 */
import type { Consumed } from './read-back.ts'

export interface Judgement {
  readonly inKafka: number
  readonly lost: readonly string[]
  readonly duplicates: readonly string[]
  readonly outOfOrder: readonly string[]
  /** Payload differs from what was published. */
  readonly altered: readonly string[]
}

export interface Published {
  readonly id: string
  readonly payload: Buffer
  acknowledged: boolean
}

/**
 * `shed` says by device how many of its messages the ledger counts as shed: acknowledged, and not in Kafka. The ledger
 * knows how many, not which; so that many missing ones of that device are forgiven.
 */
export function judge(
  published: ReadonlyMap<string, Published>,
  consumed: readonly Consumed[],
  shed: ReadonlyMap<string, number> = new Map(),
): Judgement {
  const seen = new Set<string>()
  const duplicates: string[] = []
  const altered: string[] = []
  for (const record of consumed) {
    const id = idOf(record)
    if (seen.has(id)) duplicates.push(id)
    seen.add(id)
    const origin = published.get(id)
    if (origin === undefined || !origin.payload.equals(record.payload)) altered.push(id)
  }
  const lost: string[] = []
  const forgivable = new Map(shed)
  for (const { id, acknowledged } of published.values()) {
    if (!acknowledged || seen.has(id)) continue
    const device = id.slice(0, id.lastIndexOf('-'))
    const left = forgivable.get(device) ?? 0
    if (left > 0) forgivable.set(device, left - 1)
    else lost.push(id)
  }
  return { inKafka: consumed.length, lost, duplicates, outOfOrder: disorder(consumed), altered }
}

export function idOf(record: Consumed): string {
  const topic = record.headers['mqtt-topic'] ?? ''
  return topic.slice(topic.lastIndexOf('/') + 1)
}

/** One device's messages of one lane must first appear in Kafka in the order of its sequence numbers. */
function disorder(consumed: readonly Consumed[]): string[] {
  const last = new Map<string, number>()
  const seen = new Set<string>()
  const found: string[] = []
  for (const record of consumed) {
    const id = idOf(record)
    if (seen.has(id)) continue
    seen.add(id)
    const lane = record.headers['pos']?.split(':')[1] ?? ''
    const sequence = Number(id.slice(id.lastIndexOf('-') + 1))
    const key = `${record.partition}/${record.key}/${lane}`
    const before = last.get(key)
    if (before !== undefined && sequence < before) found.push(id)
    last.set(key, Math.max(before ?? sequence, sequence))
  }
  return found
}
