/** The one unfinished run, and what becomes of it, in the box's memory. */
import type { Clock } from '../../clock.ts'
import { GatewayError } from '../../errors.ts'
import type { Outcome } from '../kinds.ts'
import type { Json, Memory, MemoryChanges } from '../memory.ts'
import { appliedOf, runOf, toJson } from './run.ts'
import type { AppliedPatch, Direction, Point, Run } from './run.ts'

const RUN = 'journal/run'
const HISTORY = 'history/'
const HISTORY_MAX = 200

/** What a daemon that is down left unfinished; undefined also when nobody can read it. */
export function unfinishedIn(memory: ReadonlyMap<string, Json>): RunnerState | undefined {
  return stateOf(runOf(memory.get(RUN)))
}

export interface RunnerState {
  readonly patch: string
  readonly step: Point
  /** Wall ms of the beginning of the step. */
  readonly since: number
  readonly attempt: number
  readonly direction: Direction
  /** It could not be taken back; the next start tries again. */
  readonly broken: boolean
}

export function stateOf(run: Run | undefined): RunnerState | undefined {
  if (run === undefined) return undefined
  const { patch, point: step, sinceMs: since, attempt, direction, broken } = run
  return { patch, step, since, attempt, direction, broken }
}

export class Journal {
  readonly #memory: Memory
  readonly #clock: Clock
  #run: Run | undefined

  constructor(memory: Memory, clock: Clock) {
    this.#memory = memory
    this.#clock = clock
  }

  /** As last written by this life, or loaded. */
  get run(): Run | undefined {
    return this.#run
  }

  async load(): Promise<Run | undefined> {
    const stored = (await this.#memory.read(RUN)).get(RUN)
    this.#run = runOf(stored)
    if (stored !== undefined && this.#run === undefined)
      throw new GatewayError('fatal', 'the journal of the patch that was under way can not be understood', {
        remedy: 'Install the release again that wrote it, or a newer one.',
      })
    return this.#run
  }

  /** Durable when it resolves. */
  async write(run: Run): Promise<Run> {
    await this.#memory.write({ [RUN]: toJson(run) })
    return (this.#run = run)
  }

  async applied(patch: string): Promise<AppliedPatch | undefined> {
    const key = `applied/${patch}`
    return appliedOf((await this.#memory.read(key)).get(key))
  }

  /** Runs of these bytes that a crash or the surroundings ended so far. */
  async attempts(digest: string): Promise<number> {
    const key = `attempts/${digest}`
    const stored = (await this.#memory.read(key)).get(key)
    return typeof stored === 'number' ? stored : 0
  }

  /** The end of a run, in one transaction. `counts`: the attempt was used up. */
  async finish(run: Run, outcome: Outcome, counts: boolean): Promise<void> {
    const isKept = outcome.state === 'broken'
    await this.#memory.write({
      ...(await this.#consequences(run, outcome, counts)),
      // One that stays broken over restarts is one line, not one for each start.
      ...(isKept && run.broken ? {} : await this.#history(outcome)),
      // An undo that did not begin is no end: the patch is in force as before.
      ...(run.direction === 'undo' && outcome.state === 'interrupted' ? {} : { [`outbound/${run.patch}`]: toJson(outcome) }),
      [RUN]: isKept ? toJson({ ...run, broken: true }) : undefined,
    })
    this.#run = isKept ? { ...run, broken: true } : undefined
  }

  /** The end of what was never begun: nothing of it is worth a line in the history, for it may come again each minute. */
  async refuse(outcome: Outcome, denial: MemoryChanges): Promise<void> {
    const history = outcome.state === 'failed' ? await this.#history(outcome) : {}
    await this.#memory.write({ ...denial, ...history, [`outbound/${outcome.patch}`]: toJson(outcome) })
  }

  denial(patch: string, digest: string, retry: number, reason: string): MemoryChanges {
    return { [`denied/${digest}`]: { patch, retry, reason, atMs: this.#clock.wallMs() }, [`attempts/${digest}`]: undefined }
  }

  async #consequences(run: Run, outcome: Outcome, counts: boolean): Promise<MemoryChanges> {
    const { patch, digest } = run
    switch (outcome.state) {
      case 'completed':
        return { ...(await this.#commitment(run)), [`attempts/${digest}`]: undefined, [`undone/${patch}`]: undefined }
      case 'failed':
        return this.denial(patch, digest, run.retry, outcome.reason ?? '')
      case 'rolled-back':
        return {
          [`applied/${patch}`]: undefined,
          [`undone/${patch}`]: { digest, reason: outcome.reason ?? '', atMs: this.#clock.wallMs() },
        }
      case 'interrupted':
        return counts ? { [`attempts/${digest}`]: run.attempt } : {}
      case 'inconclusive':
      case 'broken':
        return {}
    }
  }

  async #commitment(run: Run): Promise<MemoryChanges> {
    const { patch, digest, kind, channel, sequence, health, payload, plan } = run
    const floorKey = `floor/${channel}`
    const floor = (await this.#memory.read(floorKey)).get(floorKey)
    const applied = toJson({ digest, kind, channel, sequence, health, payload, plan, atMs: this.#clock.wallMs() })
    return { [`applied/${patch}`]: applied, ...(sequenceOf(floor) < sequence && { [floorKey]: { sequence, patch } }) }
  }

  async #history(outcome: Outcome): Promise<MemoryChanges> {
    const known = [...(await this.#memory.read(HISTORY)).keys()]
    const last = Number(known.at(-1)?.slice(HISTORY.length) ?? 0)
    const old = known.slice(0, Math.max(0, known.length + 1 - HISTORY_MAX))
    const key = `${HISTORY}${String(last + 1).padStart(12, '0')}`
    return { ...Object.fromEntries(old.map((name) => [name, undefined])), [key]: toJson(outcome) }
  }
}

/** The floor only rises: a box that catches up may apply an older one behind a newer one. */
function sequenceOf(floor: Json | undefined): number {
  const isFloor = typeof floor === 'object' && floor !== null && 'sequence' in floor
  return isFloor && typeof floor.sequence === 'number' ? floor.sequence : -1
}
