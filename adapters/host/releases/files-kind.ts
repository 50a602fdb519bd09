import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { FilesPatch } from '../../../daemon/patch/document.ts'
import type { Accepted, Downloads, Kind } from '../../../daemon/patch/kinds.ts'
import type { Hooks } from '../hooks.ts'
import { build, isWhole, prune, remove } from './build.ts'
import { exists, found, linkTarget, makeFolder, removeAll, removeIfEmpty, removeLink, replaceLink, sync, told } from './disk.ts'
import { incomingPath, pathsOf, rejected, type FilesPlan } from './plan.ts'
import { assertRoom, prepare, type PrepareSources } from './prepare.ts'
import { Serving } from './serving.ts'

export interface FilesKindOptions extends PrepareSources {
  readonly downloads: Downloads
  readonly hooks: Hooks
}

const FLIP_LIMIT_MS = 5_000

/**
 * Software beside the gateway: `<root>/releases/<digest>/`, and `<root>/current`, a link to the one in force. One patch,
 * one root, one flip.
 */
export class FilesKind implements Kind<FilesPatch, FilesPlan> {
  readonly #options: FilesKindOptions
  readonly #serving: Serving

  constructor(options: FilesKindOptions) {
    this.#options = options
    this.#serving = new Serving(options.hooks, options.units)
  }

  prepare(accepted: Accepted<FilesPatch>, signal: AbortSignal): Promise<FilesPlan> {
    const name = accepted.patch.spec.root
    return told(this.#options.roots[name] ?? name, () => prepare(accepted, this.#options, signal))
  }

  fetch(plan: FilesPlan, signal: AbortSignal): Promise<void> {
    return told(plan.root, async () => {
      if (await isWhole(plan)) return
      await assertRoom(plan, this.#options.reserveBytes)
      await makeFolder(pathsOf(plan).incoming)
      await this.#download(plan, signal)
    })
  }

  build(plan: FilesPlan, signal: AbortSignal): Promise<void> {
    return told(plan.root, async () => {
      if (await isWhole(plan)) return
      // Read again, and fetched again what a failing disk lost since.
      await makeFolder(pathsOf(plan).incoming)
      await this.#download(plan, signal)
      await assertRoom(plan, this.#options.reserveBytes)
      await build(plan, this.#options.reserveBytes, signal)
    })
  }

  pre(plan: FilesPlan, signal: AbortSignal): Promise<void> {
    return told(plan.root, () => this.#serving.leaveOld(plan, signal))
  }

  flip(plan: FilesPlan): Promise<void> {
    return told(plan.root, async () => {
      const paths = pathsOf(plan)
      const now = await linkTarget(paths.current)
      if (now === paths.target) return sync(plan.root)
      if (now !== (plan.previous ?? undefined)) throw changedByHand(plan, now)
      await replaceLink(paths.current, paths.target)
    })
  }

  async isFlipped(plan: FilesPlan): Promise<boolean> {
    const paths = pathsOf(plan)
    return told(plan.root, async () => (await linkTarget(paths.current)) === paths.target)
  }

  activate(plan: FilesPlan, signal: AbortSignal): Promise<void> {
    return told(plan.root, () => this.#serving.enterNew(plan, signal))
  }

  verify(plan: FilesPlan, signal: AbortSignal): Promise<void> {
    return told(plan.root, async () => {
      const now = await linkTarget(pathsOf(plan).current)
      if (now !== pathsOf(plan).target) throw changedByHand(plan, now)
      await this.#serving.verify(plan, signal)
    })
  }

  commit(plan: FilesPlan): Promise<void> {
    return told(plan.root, async () => {
      const needed = plan.previous === null ? [] : [plan.previous]
      await prune(plan, [pathsOf(plan).target, ...needed])
      await removeAll(pathsOf(plan).incoming)
      await sync(plan.root)
    })
  }

  unflip(plan: FilesPlan): Promise<void> {
    return told(plan.root, async () => {
      const paths = pathsOf(plan)
      const now = await linkTarget(paths.current)
      if (now === (plan.previous ?? undefined)) return sync(plan.root)
      if (now !== paths.target) throw changedByHand(plan, now)
      if (plan.previous === null) return removeLink(paths.current)
      if ((await found(stat(resolve(plan.root, plan.previous)))) === undefined) {
        throw rejected(
          `the version from before, ${plan.previous}, is no longer below ${plan.root}`,
          'Roll out a patch with the version that is wanted.',
        )
      }
      await replaceLink(paths.current, plan.previous)
    })
  }

  reactivate(plan: FilesPlan, signal: AbortSignal): Promise<void> {
    return told(plan.root, () => this.#serving.enterOld(plan, signal))
  }

  discard(plan: FilesPlan): Promise<void> {
    return told(plan.root, async () => {
      const paths = pathsOf(plan)
      const inForce = (await linkTarget(paths.current)) === paths.target
      const limit = AbortSignal.timeout(this.limitMs('reactivate', plan))
      // The rest is cleared away also when the way back was not smooth; the fault is told after that.
      const fault = inForce
        ? undefined
        : await this.#serving.stayOld(plan, limit).then(
            () => undefined,
            (error: unknown) => ({ error }),
          )
      if (!inForce) await remove(plan)
      if (plan.previous === null && !inForce) await removeIfEmpty(paths.releases)
      await removeAll(paths.incoming)
      await removeAll(`${paths.current}.new`)
      if (await exists(plan.root)) await sync(plan.root)
      if (fault !== undefined) throw fault.error
    })
  }

  limitMs(step: 'pre' | 'flip' | 'activate' | 'unflip' | 'reactivate', plan: FilesPlan): number {
    return step === 'flip' || step === 'unflip' ? FLIP_LIMIT_MS : this.#serving.limitMs(step, plan)
  }

  async #download(plan: FilesPlan, signal: AbortSignal): Promise<void> {
    for (const artifact of plan.artifacts) await this.#options.downloads.fetch(artifact, incomingPath(plan, artifact), signal)
  }
}

function changedByHand(plan: FilesPlan, now: string | undefined): Error {
  const says = now === undefined ? 'is gone' : `leads to ${now}`
  return rejected(`${plan.root}/current ${says}; somebody changed it by hand`, 'Say which version is wanted, and make the link lead there.')
}
