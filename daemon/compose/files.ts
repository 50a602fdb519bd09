/** Who carries out patches of kind files: the executor, or the daemon itself where a root is its own. */
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { RemoteFiles, type RemotePlan } from '../../adapters/executor/client.ts'
import { FilesKind, type FilesKindOptions } from '../../adapters/host/releases/files-kind.ts'
import type { FilesPlan } from '../../adapters/host/releases/plan.ts'
import type { Clock } from '../clock.ts'
import type { FilesPatch } from '../patch/document.ts'
import type { Accepted, Kind } from '../patch/kinds.ts'

export interface FilesParts extends FilesKindOptions {
  readonly executor: { readonly socket: string; readonly ifThere: boolean } | undefined
  readonly dataDir: string
  readonly clock: Clock
}

type Plan = FilesPlan | RemotePlan
type Limited = Parameters<Kind['limitMs']>[0]

/** A plan is carried out to its end by whom it was made. */
export class FilesByWhom implements Kind<FilesPatch, Plan> {
  readonly #parts: FilesParts
  readonly #own: FilesKind
  readonly #remote: RemoteFiles

  constructor(parts: FilesParts) {
    const { executor, dataDir, downloads, reserveBytes, clock } = parts
    this.#parts = parts
    this.#own = new FilesKind(parts)
    this.#remote = new RemoteFiles({
      // A plan that was begun there must end there, also when nothing new begins.
      socketPath: executor?.socket ?? '/run/edge-gateway-executor.sock',
      folder: join(dataDir, 'incoming'),
      limitMs: (step, files) => this.#own.limitMs(step, files as unknown as FilesPlan),
      ...{ downloads, reserveBytes, clock },
    })
  }

  prepare(accepted: Accepted<FilesPatch>, signal: AbortSignal): Promise<Plan> {
    return this.#isRemote(accepted) ? this.#remote.prepare(accepted, signal) : this.#own.prepare(accepted, signal)
  }

  fetch = (plan: Plan, signal: AbortSignal): Promise<void> => this.#of(plan).fetch(plan, signal)
  build = (plan: Plan, signal: AbortSignal): Promise<void> => this.#of(plan).build(plan, signal)
  pre = (plan: Plan, signal: AbortSignal): Promise<void> => this.#of(plan).pre(plan, signal)
  flip = (plan: Plan): Promise<void> => this.#of(plan).flip(plan)
  isFlipped = (plan: Plan): Promise<boolean> => this.#of(plan).isFlipped(plan)
  activate = (plan: Plan, signal: AbortSignal): Promise<void> => this.#of(plan).activate(plan, signal)
  verify = (plan: Plan, signal: AbortSignal): Promise<void> => this.#of(plan).verify(plan, signal)
  commit = (plan: Plan): Promise<void> => this.#of(plan).commit(plan)
  unflip = (plan: Plan): Promise<void> => this.#of(plan).unflip(plan)
  reactivate = (plan: Plan, signal: AbortSignal): Promise<void> => this.#of(plan).reactivate(plan, signal)
  discard = (plan: Plan): Promise<void> => this.#of(plan).discard(plan)
  limitMs = (step: Limited, plan: Plan): number => this.#of(plan).limitMs(step, plan)

  #of(plan: Plan): Kind<FilesPatch, Plan> {
    return 'executor' in plan ? this.#remote : this.#own
  }

  #isRemote({ patch }: Accepted<FilesPatch>): boolean {
    const { executor, roots } = this.#parts
    if (executor === undefined) return false
    if (!executor.ifThere) return true
    const root = roots[patch.spec.root]
    const isOwn = root !== undefined && statSync(root, { throwIfNoEntry: false })?.uid === process.geteuid?.()
    return !isOwn && existsSync(executor.socket)
  }
}
