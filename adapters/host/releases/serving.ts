import { readFile, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { messageOf } from '../../../daemon/errors.ts'
import type { Hooks } from '../hooks.ts'
import { isRunning, type Units } from '../units.ts'
import { found, makeFolder, sync, writeDurable } from './disk.ts'
import { pathsOf, rejected, type FilesPlan, type PlannedHook } from './plan.ts'

/** What ran before the patch touched it: which units to start again on the way back, and that a start was a new one. */
export interface Begun {
  readonly units: readonly { readonly unit: string; readonly active: boolean; readonly invocation: string }[]
}

/** What runs from a root: its units and the hooks of a patch. */
export class Serving {
  readonly #hooks: Hooks
  readonly #units: Units

  constructor(hooks: Hooks, units: Units) {
    this.#hooks = hooks
    this.#units = units
  }

  /** The hook, then the stop: as late as can be before the flip. */
  async leaveOld(plan: FilesPlan, signal: AbortSignal): Promise<void> {
    await this.#note(plan, signal)
    await this.#hook(plan, plan.pre, signal)
    for (const unit of plan.units) await this.#units.stop(unit, signal)
  }

  async enterNew(plan: FilesPlan, signal: AbortSignal): Promise<void> {
    for (const unit of plan.units) await this.#units.start(unit, signal)
    await this.#hook(plan, plan.post, signal)
  }

  /** After the flip was taken back: no program of the new version stays. */
  async enterOld(plan: FilesPlan, signal: AbortSignal): Promise<void> {
    const begun = await this.begun(plan)
    // No note: the pre hook had not begun, or the way back was over, or the patch was committed long ago.
    const ran = begun?.units.filter(({ active }) => active).map(({ unit }) => unit) ?? plan.active
    const before = new Map<string, string>()
    for (const unit of [...plan.units].reverse()) {
      before.set(unit, (await this.#units.state(unit, signal)).invocation)
      await this.#units.stop(unit, signal)
    }
    await this.#hook(plan, plan.rollback, signal)
    for (const unit of plan.units) {
      if (!ran.includes(unit)) continue
      await this.#units.start(unit, signal)
      await this.#assertServing(unit, before.get(unit), signal)
    }
    await this.#forget(plan)
  }

  /** When the flip never came: the units run again from the old version, whatever the hook says. */
  async stayOld(plan: FilesPlan, signal: AbortSignal): Promise<void> {
    const begun = await this.begun(plan)
    if (begun === undefined) return
    const faults: unknown[] = []
    const attempt = (work: () => Promise<void>): Promise<void> => work().catch((error: unknown) => void faults.push(error))
    await attempt(async () => void (await this.#hook(plan, plan.rollback, signal)))
    for (const { unit, active } of begun.units) if (active) await attempt(() => this.#units.start(unit, signal))
    await this.#forget(plan)
    if (faults.length > 0) throw rejected(faults.map(messageOf).join('; '))
  }

  /** Rejects with `rejected` unless the new version is what runs. */
  async verify(plan: FilesPlan, signal: AbortSignal): Promise<void> {
    const begun = await this.begun(plan)
    for (const unit of plan.units) {
      await this.#assertServing(unit, begun?.units.find((noted) => noted.unit === unit)?.invocation, signal)
    }
    if (plan.running === null) return
    const says = (await this.#hook(plan, plan.running, signal)).trim()
    if (says !== plan.version) throw rejected(`what runs says "${says.slice(0, 200)}", not "${plan.version}"`)
  }

  async begun(plan: FilesPlan): Promise<Begun | undefined> {
    const text = await found(readFile(pathsOf(plan).begun, 'utf8'))
    return text === undefined ? undefined : (JSON.parse(text) as Begun)
  }

  limitMs(step: 'pre' | 'activate' | 'reactivate', plan: FilesPlan): number {
    const hook = step === 'pre' ? plan.pre : step === 'activate' ? plan.post : plan.rollback
    const rounds = step === 'reactivate' ? 2 : 1
    return (hook === null ? 0 : this.#hooks.limitMs(hook.timeoutMs)) + plan.units.length * rounds * this.#units.limitMs + 5_000
  }

  /** Once: after a crash the units may already be stopped, and the note still says what they were. */
  async #note(plan: FilesPlan, signal: AbortSignal): Promise<void> {
    if ((await this.begun(plan)) !== undefined) return
    const units: Begun['units'][number][] = []
    for (const unit of plan.units) {
      const { active, invocation } = await this.#units.state(unit, signal)
      units.push({ unit, active: isRunning(active), invocation })
    }
    const path = pathsOf(plan).begun
    await makeFolder(dirname(path))
    await writeDurable(path, JSON.stringify({ units } satisfies Begun))
  }

  async #forget(plan: FilesPlan): Promise<void> {
    const path = pathsOf(plan).begun
    await rm(path, { force: true })
    await found(sync(dirname(path)))
  }

  /** `old`: the start that must not be the one that serves. */
  async #assertServing(unit: string, old: string | undefined, signal: AbortSignal): Promise<void> {
    const { active, invocation } = await this.#units.state(unit, signal)
    if (active !== 'active') throw rejected(`${unit} is ${active}`, `Look at "journalctl -u ${unit}".`)
    if (old !== undefined && old !== '' && old === invocation)
      throw rejected(`${unit} was not restarted: the version from before still serves`)
  }

  async #hook(plan: FilesPlan, hook: PlannedHook | null, signal: AbortSignal): Promise<string> {
    if (hook === null) return ''
    const { release } = pathsOf(plan)
    const environment = {
      EDGE_PATCH: plan.patch,
      EDGE_RELEASE: release,
      EDGE_ROOT: plan.root,
      EDGE_PREVIOUS: plan.previous === null ? '' : `${plan.root}/${plan.previous}`,
    }
    return this.#hooks.run({ ...hook, folder: release, root: plan.root, environment }, signal)
  }
}
