/** A kind of patch on a fake box, and health checks that a test decides. */
import type { Patch } from '../../daemon/patch/document.ts'
import type { Accepted, CheckResult, Checks, Kind, Permit } from '../../daemon/patch/kinds.ts'

export interface FakePlan {
  readonly id: string
  readonly [key: string]: string
}

export type KindCall = Exclude<keyof Kind, 'limitMs' | 'counts'>

/** What stands on the box: survives a `FakeKind`, as a disk would. */
export class FakeBox {
  /** What the link says, and what runs. */
  linked = 'old'
  running = 'old'
  /** What patches left beside the current version. */
  readonly leftovers = new Set<string>()
  /** Calls since the start, for a test to look at. */
  readonly calls: string[] = []
}

export class FakeKind implements Kind<Patch, FakePlan> {
  readonly box: FakeBox
  /** Throws what the call rejects with; nothing is done then. */
  fault: ((call: KindCall, signal: AbortSignal | undefined) => void | Promise<void>) | undefined
  limits: Partial<Record<'pre' | 'flip' | 'activate' | 'unflip' | 'reactivate', number>> = {}

  constructor(box = new FakeBox()) {
    this.box = box
  }

  async prepare({ patch }: Accepted, signal: AbortSignal): Promise<FakePlan> {
    await this.#call('prepare', signal)
    return { id: patch.id, before: this.box.linked }
  }

  async fetch({ id }: FakePlan, signal: AbortSignal): Promise<void> {
    await this.#call('fetch', signal)
    this.box.leftovers.add(`${id}.part`)
  }

  async build({ id }: FakePlan, signal: AbortSignal): Promise<void> {
    await this.#call('build', signal)
    this.box.leftovers.delete(`${id}.part`)
    this.box.leftovers.add(id)
  }

  async pre(_: FakePlan, signal: AbortSignal): Promise<void> {
    await this.#call('pre', signal)
    this.box.running = 'nothing'
  }

  async flip({ id }: FakePlan): Promise<void> {
    await this.#call('flip')
    if (!this.box.leftovers.has(id)) throw new Error('flipped to what was not built')
    this.box.linked = id
  }

  async isFlipped({ id }: FakePlan): Promise<boolean> {
    await this.#call('isFlipped')
    return this.box.linked === id
  }

  async activate(_: FakePlan, signal: AbortSignal): Promise<void> {
    await this.#call('activate', signal)
    this.box.running = this.box.linked
  }

  async verify(_: FakePlan, signal: AbortSignal): Promise<void> {
    await this.#call('verify', signal)
  }

  async commit(_: FakePlan): Promise<void> {
    await this.#call('commit')
  }

  async unflip({ before }: FakePlan): Promise<void> {
    await this.#call('unflip')
    this.box.linked = before ?? 'old'
  }

  async reactivate(_: FakePlan, signal: AbortSignal): Promise<void> {
    await this.#call('reactivate', signal)
    this.box.running = this.box.linked
  }

  async discard({ id }: FakePlan): Promise<void> {
    await this.#call('discard')
    if (this.box.linked === id) throw new Error('discarded what is in force')
    this.box.leftovers.delete(`${id}.part`)
    this.box.leftovers.delete(id)
  }

  limitMs(step: 'pre' | 'flip' | 'activate' | 'unflip' | 'reactivate'): number {
    return this.limits[step] ?? 100
  }

  async #call(name: KindCall, signal?: AbortSignal): Promise<void> {
    await Promise.resolve()
    signal?.throwIfAborted()
    this.box.calls.push(name)
    await this.fault?.(name, signal)
  }
}

/** All checks pass unless `bad` names them with the reason. */
export class FakeChecks implements Checks {
  readonly bad = new Map<string, string>()
  rounds = 0
  /** Called before each round. */
  onRound: ((round: number) => void) | undefined

  async run(names: readonly string[]): Promise<readonly CheckResult[]> {
    await Promise.resolve()
    this.rounds++
    this.onRound?.(this.rounds)
    return names.map((name) => {
      const reason = this.bad.get(name)
      return reason === undefined ? { name, ok: true } : { name, ok: false, reason }
    })
  }
}

/** Allows everything, unless a test says otherwise; notes what it was asked. */
export class FakePermit implements Permit {
  readonly asked: string[] = []
  refusal: ((question: 'fits' | 'window', limitMs: number) => Error | undefined) | undefined

  assertFits(limitMs: number): void {
    this.#ask('fits', limitMs)
  }

  assertWindow(limitMs: number): void {
    this.#ask('window', limitMs)
  }

  #ask(question: 'fits' | 'window', limitMs: number): void {
    this.asked.push(`${question} ${limitMs}`)
    const error = this.refusal?.(question, limitMs)
    if (error !== undefined) throw error
  }
}
