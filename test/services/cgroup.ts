import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * A group of programs of its own in each hierarchy that systemd uses: two systemds in one group would take each other's
 * programs for their own.
 */
export interface Cgroup {
  /** Files to write a pid to, to put that program and its children into the group. */
  readonly entrances: readonly string[]
  /** When all that was in it has ended. */
  remove(): Promise<void>
}

export function makeCgroup(name: string): Cgroup {
  const folders = hierarchies().map((root) => join(root, name))
  for (const folder of folders) mkdirSync(folder)
  return {
    entrances: folders.map((folder) => join(folder, 'cgroup.procs')),
    remove: async () => {
      for (const folder of folders) await removeTree(folder)
    },
  }
}

/**
 * Takes memory away from a running program: what it has it may keep, beyond `bytes` more the kernel kills it. Returns what
 * ends that, when the program has gone.
 */
export function limitMemory(name: string, pid: number, bytes: number): () => Promise<void> {
  const old = mountsOf((type, options) => type === 'cgroup' && options.includes('memory'))[0]
  const root = old ?? mountsOf((type) => type === 'cgroup2')[0]
  if (root === undefined) throw new Error('this machine has no memory control groups')
  if (old === undefined) writeFileSync(join(root, 'cgroup.subtree_control'), '+memory')
  const folder = join(root, name)
  mkdirSync(folder)
  writeFileSync(join(folder, old === undefined ? 'memory.max' : 'memory.limit_in_bytes'), String(bytes))
  // Only what is allocated from now on counts here.
  writeFileSync(join(folder, 'cgroup.procs'), String(pid))
  return () => removeTree(folder)
}

/** cgroup2, and systemd's own of version 1 where both are there. */
function hierarchies(): string[] {
  return mountsOf((type, options) => type === 'cgroup2' || (type === 'cgroup' && options.includes('name=systemd')))
}

function mountsOf(isWanted: (type: string, options: readonly string[]) => boolean): string[] {
  const lines = readFileSync('/proc/self/mounts', 'utf8').split('\n')
  return lines.flatMap((line) => {
    const [, path = '', type = '', options = ''] = line.split(' ')
    return isWanted(type, options.split(',')) ? [path] : []
  })
}

/** A group can be removed when nobody is in it; the kernel takes a moment to see that. */
async function removeTree(folder: string): Promise<void> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) if (entry.isDirectory()) await removeTree(join(folder, entry.name))
  for (let attempt = 0; ; attempt += 1) {
    try {
      return rmdirSync(folder)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY' || attempt === 500) throw error
      await sleep(20)
    }
  }
}
