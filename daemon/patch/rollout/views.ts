/** One rollout's view out of the fleet, the locks and the time. */
import type { Clock } from '../../clock.ts'
import { isTarget } from './targets.ts'
import { isStageDone } from './counts.ts'
import type { Fleet, FleetBox } from './fleet.ts'
import { NO_LOCKS } from './locks.ts'
import type { ScopeLocks } from './locks.ts'
import { Presence, Since } from './presence.ts'
import { isAbsent } from './silence.ts'
import { isGood } from './view.ts'
import type { BoxView, Facts, FleetRollout, RolloutView } from './view.ts'

/** What is left of a view when nobody keeps time: for people who look once. */
export function viewOf(
  fleet: Fleet,
  rollout: FleetRollout,
  locks: ScopeLocks,
  isOnline: (gateway: string) => boolean,
  nowMs: number,
): RolloutView {
  const boxes = new Map<string, BoxView>()
  const named = new Set([...rollout.cohorts.values()].flat())
  for (const box of fleet.boxes.values()) {
    const view = toBox(rollout, box, locks, isOnline(box.gateway))
    if (view.result !== undefined || named.has(box.gateway) || isAddressed(rollout, box)) boxes.set(box.gateway, view)
  }
  return {
    ...rollout,
    revision: fleet.revision,
    boxes,
    others: new Map([...fleet.others].filter(([id]) => id !== rollout.id)),
    facts: { nowMs, doneForMs: undefined, absentForMs: new Map() },
  }
}

function isAddressed({ spec }: FleetRollout, { gateway, place }: FleetBox): boolean {
  return 'patch' in spec && place !== undefined && isTarget(spec.patch.target, { gateway, ...place })
}

function toBox({ id, spec }: FleetRollout, box: FleetBox, locks: ScopeLocks, online: boolean): BoxView {
  const { gateway, place = { site: null, labels: {} } } = box
  const found = box.results.get(id)
  const own = found?.result?.digest === spec.digest ? found?.result : undefined
  const marker = locks.markers.get(gateway)
  return {
    gateway,
    ...place,
    online,
    result: own,
    resultMod: found?.mod ?? 0,
    // Several patches may have one scope.
    markerMod: marker !== undefined && (marker.patch ?? id) === id ? marker.mod : 0,
    isQueued: locks.queued.has(gateway) || (own !== undefined && locks.tokens.has(own.token)),
  }
}

/** Keeps the time for all views of one controller's reign. */
export class Views {
  readonly #clock: Clock
  readonly #presence: Presence
  readonly #done: Since
  readonly #absent: Since

  constructor(clock: Clock) {
    this.#clock = clock
    this.#presence = new Presence(clock)
    this.#done = new Since(clock)
    this.#absent = new Since(clock)
  }

  /** In the order in which they are decided. */
  look(fleet: Fleet, locks: ReadonlyMap<string, ScopeLocks>): readonly RolloutView[] {
    this.#presence.look(new Map([...fleet.boxes].flatMap(([id, { alive }]) => (alive === undefined ? [] : [[id, alive]]))))
    const isOnline = (gateway: string): boolean => this.#presence.isOnline(gateway)
    return fleet.rollouts.map((rollout) => {
      const ofScope = locks.get(scopeOf(rollout) ?? '') ?? NO_LOCKS
      const view = viewOf(fleet, rollout, ofScope, isOnline, this.#clock.wallMs())
      return { ...view, facts: this.#facts(view) }
    })
  }

  #facts(view: RolloutView): Facts {
    const isDone = isGood(view) && view.state?.phase === 'running' && isStageDone(view)
    const doneForMs = this.#done.note(`${view.id}/${view.state?.stage}/${view.state?.retry}`, isDone)
    const absentForMs = new Map<string, number>()
    for (const box of view.boxes.values()) {
      const ms = this.#absent.note(`${view.id}/${box.gateway}/${box.result?.token}`, isAbsent(view, box))
      if (ms !== undefined) absentForMs.set(box.gateway, ms)
    }
    return { nowMs: this.#clock.wallMs(), doneForMs, absentForMs }
  }
}

/** Undefined when nothing can be open there: nobody was let in, and nobody has it to undo. */
export function scopeOf({ spec, state }: FleetRollout): string | undefined {
  if (!('patch' in spec) || state === undefined || state.stage < 0) return undefined
  return spec.patch.rollout.concurrency.scope
}
