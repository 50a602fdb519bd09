/** The rollouts as they stand in etcd. Kept between looks, so that a second one costs what has changed only. */
import { readFleet, type RolloutReader } from '../../patch/rollout/fleet.ts'
import { readLocks } from '../../patch/rollout/locks.ts'
import { rolloutOverview, type RolloutOverview } from '../../patch/rollout/overview.ts'
import { trustingReader } from '../../patch/rollout/reader.ts'
import { type Snapshot, takeSnapshot } from '../../patch/rollout/snapshot.ts'
import { scopeOf, Views } from '../../patch/rollout/views.ts'
import { isGood, type RolloutView } from '../../patch/rollout/view.ts'
import type { FleetLink } from '../fleet-link.ts'

export interface RolloutLine extends RolloutOverview {
  readonly kind: string | undefined
  readonly channel: string | undefined
  readonly sequence: number | undefined
  /** Known gateways that it is for, or that have a result. */
  readonly gateways: number
}

export interface Rollouts {
  readonly revision: number
  readonly rollouts: readonly RolloutLine[]
  /** Keys that nobody can read, and why. */
  readonly unreadable: ReadonlyMap<string, string>
}

export class RolloutWatch {
  readonly #link: FleetLink
  readonly #reader: RolloutReader
  readonly #views: Views
  #snapshot: Snapshot | undefined

  constructor(link: FleetLink) {
    this.#link = link
    this.#reader = trustingReader(link.trust)
    this.#views = new Views(link.clock)
  }

  /** Rejects with an `EtcdFailure`, and with a `fenced` error when etcd was restored meanwhile. */
  async look(): Promise<Rollouts> {
    const { etcd } = this.#link
    this.#snapshot = await takeSnapshot(etcd, this.#snapshot)
    const fleet = readFleet(this.#snapshot, this.#reader)
    const locks = await readLocks(etcd, new Set(fleet.rollouts.flatMap((rollout) => scopeOf(rollout) ?? [])))
    const rollouts = this.#views.look(fleet, locks).map(lineOf)
    return { revision: fleet.revision, rollouts, unreadable: fleet.unreadable }
  }
}

function lineOf(view: RolloutView): RolloutLine {
  const patch = isGood(view) ? view.spec.patch : undefined
  const names = { kind: patch?.kind, channel: patch?.channel, sequence: patch?.sequence }
  return { ...rolloutOverview(view), ...names, gateways: view.boxes.size }
}
