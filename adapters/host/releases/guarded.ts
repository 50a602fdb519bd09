/**
 * FilesKind for a program that runs as root. What lies in a root belongs to somebody, who may exchange folders for links
 * while we work there: so the work in a root that is not root's is done with the rights of its owner, and one that is
 * root's must be root's all the way up. Hooks never run as root, unless the configuration names it.
 */
import { readFile, realpath, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { FilesPatch } from '../../../daemon/patch/document.ts'
import type { Accepted } from '../../../daemon/patch/kinds.ts'
import { Hooks } from '../hooks.ts'
import { actAs, type Account } from '../identity.ts'
import { broughtOnly, missing, receive } from './deliver.ts'
import { found, told } from './disk.ts'
import { FilesKind } from './files-kind.ts'
import { rejected, type FilesPlan } from './plan.ts'
import type { PrepareSources } from './prepare.ts'

export interface GuardedOptions extends PrepareSources {
  /** Named in the configuration. */
  readonly hookUser: string | undefined
  /** What belongs to the daemon's user is not safe from a daemon that was taken over. */
  readonly daemonUid: number | undefined
  readonly graceMs?: number
}

type Hooked = Pick<FilesPlan, 'root' | 'owner' | 'pre' | 'post' | 'rollback' | 'running'>

export class GuardedFiles {
  readonly #options: GuardedOptions

  constructor(options: GuardedOptions) {
    this.#options = options
  }

  async prepare(accepted: Accepted<FilesPatch>, signal: AbortSignal): Promise<FilesPlan> {
    const root = this.#options.roots[accepted.patch.spec.root]
    if (root === undefined) return this.#kind(undefined).prepare(accepted, signal)
    const owner = await told(root, () => this.#ownerOf(root))
    const plan = await actAs(owner, () => this.#kind(undefined).prepare(accepted, signal))
    await this.#hookAccount(plan, owner)
    return plan
  }

  missing(plan: FilesPlan): Promise<readonly string[]> {
    return this.#in(plan, () => told(plan.root, () => missing(plan)))
  }

  receive(plan: FilesPlan, sha256: string, bytes: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
    return this.#in(plan, () => told(plan.root, () => receive(plan, sha256, bytes, this.#options.reserveBytes, signal)))
  }

  /** Why the configuration forbids what the plan says; undefined when it does not. */
  forbids(plan: FilesPlan): string | undefined {
    const { roots, allowedUnits } = this.#options
    if (!Object.values(roots).some((root) => resolve(root) === plan.root)) return `${plan.root} is none of patches.roots any more`
    const unit = plan.units.find((name) => !allowedUnits.includes(name))
    return unit && `${unit} is none of patches.units any more`
  }

  build = (plan: FilesPlan, signal: AbortSignal): Promise<void> => this.#in(plan, (kind) => kind.build(plan, signal))
  pre = (plan: FilesPlan, signal: AbortSignal): Promise<void> => this.#in(plan, (kind) => kind.pre(plan, signal))
  flip = (plan: FilesPlan): Promise<void> => this.#in(plan, (kind) => kind.flip(plan))
  isFlipped = (plan: FilesPlan): Promise<boolean> => this.#in(plan, (kind) => kind.isFlipped(plan))
  activate = (plan: FilesPlan, signal: AbortSignal): Promise<void> => this.#in(plan, (kind) => kind.activate(plan, signal))
  verify = (plan: FilesPlan, signal: AbortSignal): Promise<void> => this.#in(plan, (kind) => kind.verify(plan, signal))
  commit = (plan: FilesPlan): Promise<void> => this.#in(plan, (kind) => kind.commit(plan))
  unflip = (plan: FilesPlan): Promise<void> => this.#in(plan, (kind) => kind.unflip(plan))
  reactivate = (plan: FilesPlan, signal: AbortSignal): Promise<void> => this.#in(plan, (kind) => kind.reactivate(plan, signal))
  discard = (plan: FilesPlan): Promise<void> => this.#in(plan, (kind) => kind.discard(plan))

  async #in<T>(plan: FilesPlan, work: (kind: FilesKind) => Promise<T>): Promise<T> {
    const owner = await told(plan.root, () => this.#ownerOf(plan.root))
    const account = await this.#hookAccount(plan, owner)
    return actAs(owner, () => work(this.#kind(account)))
  }

  #kind(account: Account | undefined): FilesKind {
    return new FilesKind({ ...this.#options, downloads: broughtOnly, hooks: new Hooks(this.#options.graceMs, account) })
  }

  /** `rejected` for a root that somebody else than root or its owner can exchange. */
  async #ownerOf(root: string): Promise<Account> {
    if ((await found(stat(root)))?.isDirectory() !== true) throw rejected(`${root} is no folder`, `Make it, for root or for a user.`)
    const real = await realpath(root)
    const { uid } = await stat(real)
    if (uid !== 0 && uid === this.#options.daemonUid) {
      const remedy = `Give it to root, or to the user of the software: chown -R root: ${root}`
      throw rejected(`${root} belongs to the gateway's own user, so that what root starts from there would not be safe`, remedy)
    }
    for (let folder = real; ; folder = dirname(folder)) {
      const seen = await stat(folder)
      const isShared = (seen.mode & 0o022) !== 0 && (folder === real || (seen.mode & 0o1000) === 0)
      if (isShared || ![0, uid].includes(seen.uid)) {
        const remedy = `Let it belong to root or to the owner of ${root}, and to nobody else: chown root: ${folder}; chmod go-w ${folder}`
        throw rejected(`others can change ${folder}, so that root can't work in ${root} safely`, remedy)
      }
      if (folder === dirname(folder)) break
    }
    return { uid, gid: uid === 0 ? 0 : await groupOf(uid) }
  }

  async #hookAccount(plan: Hooked, owner: Account): Promise<Account | undefined> {
    if ([plan.pre, plan.post, plan.rollback, plan.running].every((hook) => hook === null)) return undefined
    const { hookUser } = this.#options
    if (hookUser !== undefined) return accountOf(hookUser)
    if (owner.uid !== 0) return owner
    if (plan.owner !== null && plan.owner.uid !== 0) return plan.owner
    throw rejected(
      `the hooks of the patch would run as root, since ${plan.root} and its files are root's`,
      'Name a user as patches.hookUser, write an owner in the patch, or give the root to a user.',
    )
  }
}

async function groupOf(uid: number): Promise<number> {
  const line = (await accounts()).find((fields) => fields[2] === String(uid))
  if (line === undefined) throw rejected(`/etc/passwd has no user ${uid}`, 'Make the user, or give the root to another one.')
  return Number(line[3])
}

async function accountOf(name: string): Promise<Account> {
  const line = (await accounts()).find(([user]) => user === name)
  if (line === undefined)
    throw rejected(`/etc/passwd has no user ${name}, which patches.hookUser names`, `Make it: adduser --system ${name}`)
  return { uid: Number(line[2]), gid: Number(line[3]) }
}

async function accounts(): Promise<readonly (readonly string[])[]> {
  return (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'))
}
