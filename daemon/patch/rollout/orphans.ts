/**
 * Open markers of patches that nobody leads any more, since their spec was cleared away: no rollout's view holds them, and
 * they would keep every box of their scope out for ever.
 */
import type { Clock } from '../../clock.ts'
import { markerToken } from '../agent/results.ts'
import type { Etcd, KeyValue } from '../ports.ts'
import type { Reign } from './carry-out.ts'
import { readMarked } from './values.ts'

/** A box whose patch was cleared away while it ran has so long to tell its end. */
const PATIENCE_MS = 15 * 60_000
const EVERY_MS = 60_000
const IS_MARKER = /^locks\/[^/]+~open\//

export class Orphans {
  readonly #clock: Clock
  /** Boot ms of the first sight, by key and revision. */
  readonly #since = new Map<string, number>()
  #dueMs = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** `led`: ids whose spec stands in etcd. Rejects with an `EtcdFailure`. Returns the keys that it removed. */
  async clear(etcd: Etcd, reign: Reign, led: ReadonlySet<string>): Promise<readonly string[]> {
    const nowMs = this.#clock.bootMs()
    if (nowMs < this.#dueMs) return []
    this.#dueMs = nowMs + EVERY_MS
    const { entries } = await etcd.list({ prefix: 'locks/' })
    const alive = new Set(entries.filter(({ key }) => !IS_MARKER.test(key)).map(({ createRevision }) => createRevision))
    const orphans = entries.filter(
      (entry) => IS_MARKER.test(entry.key) && !led.has(readMarked(entry) ?? '') && !alive.has(markerToken(entry)),
    )
    const removed: string[] = []
    for (const { key, modRevision } of this.#old(orphans, nowMs)) {
      const compare = [reign.compare, { key, mod: modRevision }]
      if ((await etcd.transact({ compare, then: [{ delete: key }] })).succeeded) removed.push(key)
    }
    return removed
  }

  #old(orphans: readonly KeyValue[], nowMs: number): readonly KeyValue[] {
    const names = new Map(orphans.map((entry) => [`${entry.key} ${entry.modRevision}`, entry]))
    for (const name of this.#since.keys()) if (!names.has(name)) this.#since.delete(name)
    for (const name of names.keys()) if (!this.#since.has(name)) this.#since.set(name, nowMs)
    return [...names].flatMap(([name, entry]) => (nowMs - (this.#since.get(name) ?? nowMs) >= PATIENCE_MS ? [entry] : []))
  }
}
