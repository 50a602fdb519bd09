/** Answers technicians' questions on the patches of this box, and breaks locks for them. */
import type { PatchesDocument, WhyDocument } from '../cli/patch-views.ts'
import { GatewayError, messageOf } from '../errors.ts'
import { duration } from '../health.ts'
import type { Agent } from '../patch/agent/agent.ts'
import type { AgentState } from '../patch/agent/state.ts'
import type { PatchReader } from '../patch/agent/needs.ts'
import { breakAndPause, findEntry, type Broken, type ScopeUser } from '../patch/break.ts'
import type { Feed } from '../patch/feed.ts'
import type { LockOwner } from '../patch/lock-entries.ts'
import type { Memory } from '../patch/memory.ts'
import { keys } from '../patch/records.ts'
import { readQueues, type Queues } from '../patch/queue.ts'
import type { Tools } from '../patch/wait.ts'
import { deniedIn, patchesDocument } from './patch-documents.ts'
import { whyDocument, type LockWait } from './patch-why.ts'

export interface PatchDeskParts {
  readonly tools: Tools
  readonly memory: Pick<Memory, 'read'>
  readonly agent: Pick<Agent, 'state'>
  readonly feed: Pick<Feed, 'state'>
  readonly reader: PatchReader
  readonly owner: LockOwner
}

/** Less than a command waits for its answer. */
const BREAK_MS = 8_000
const LOOKS_MAX = 3

export class PatchDesk {
  readonly #parts: PatchDeskParts

  constructor(parts: PatchDeskParts) {
    this.#parts = parts
  }

  async patches(): Promise<PatchesDocument> {
    const { memory, agent } = this.#parts
    const state = agent.state()
    const { own, running } = state
    const document = patchesDocument({ own, running, denied: deniedIn(await memory.read('denied/')) }, state)
    const [stale] = this.#caveats(state)
    return { ...document, ...(stale !== undefined && { stale }) }
  }

  /** Undefined: it is not known here. */
  async why(patch: string): Promise<WhyDocument | undefined> {
    const state = this.#parts.agent.state()
    const row = (await this.patches()).patches.find((one) => one.patch === patch)
    if (row === undefined) return undefined
    const { turn, waitsForLock } = state
    const wait = turn === patch && waitsForLock ? await this.#waitOf(patch, state) : undefined
    const nowMs = this.#parts.tools.clock.wallMs()
    return whyDocument({ row, running: true, nowMs, wait, turn: turn === patch ? undefined : turn, caveats: this.#caveats(state) })
  }

  /** Rejects with an `EtcdFailure`. */
  queues(scope?: string): Promise<Queues> {
    return readQueues(this.#parts.tools.etcd, scope)
  }

  /** Rejects with `rejected` and what to do, or with an `EtcdFailure`. */
  async breakLock(target: string, by: string, reason: string): Promise<Broken> {
    const { tools } = this.#parts
    const signal = AbortSignal.timeout(BREAK_MS)
    for (let look = 0; look < LOOKS_MAX; look++) {
      const users = await this.#users()
      const found = await findEntry(tools, target, users)
      if ('refused' in found) throw new GatewayError('rejected', found.refused)
      const broken = await breakAndPause(tools, { entry: found.entry, by, reason, users }, signal)
      if (broken !== undefined) return broken
    }
    throw new GatewayError('rejected', `the lock ${target} changes hands: look at it with \`edgectl lock ls\`, and try again`)
  }

  /** From etcd itself: what the box last saw may be old. Patches that nobody can read start nowhere. */
  async #users(): Promise<ScopeUser[]> {
    const { tools, reader } = this.#parts
    const { entries } = await tools.etcd.list({ prefix: keys.patches })
    const found = new Map(entries.map((entry) => [entry.key, entry]))
    return entries.flatMap((entry) => {
      if (!entry.key.endsWith('/spec')) return []
      const spec = reader.spec(entry)
      if ('refused' in spec) return []
      const control = found.get(keys.control(spec.patch.id))
      const { state } = reader.control(control, spec.patch)
      return [{ patch: spec.patch, isActive: state === 'active', revision: control?.modRevision ?? 0 }]
    })
  }

  async #waitOf(patch: string, { candidates }: AgentState): Promise<LockWait | undefined> {
    const { tools, owner } = this.#parts
    const concurrency = candidates.find(({ id }) => id === patch)?.patch?.rollout.concurrency
    if (concurrency === undefined) return undefined
    const unknown = (error: unknown): { readonly unknown: string } => ({ unknown: messageOf(error) })
    const queues = await readQueues(tools.etcd, concurrency.scope).catch(unknown)
    return { ...concurrency, ...owner, queues }
  }

  #caveats({ belonging, trouble }: AgentState): string[] {
    if (belonging.kind === 'duplicate') return [`nothing starts here, since ${belonging.reason}`]
    const { state, reason = 'no reason is known', sinceMs } = this.#parts.feed.state()
    const forMs = this.#parts.tools.clock.wallMs() - sinceMs
    if (state !== 'current') return [`etcd is not heard (${state} for ${duration(forMs)}: ${reason})`]
    return trouble === undefined ? [] : [`for now nothing goes on: ${trouble.reason}`]
  }
}
