import { mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs'
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

/** cgroup2, and systemd's own of version 1 where both are there. */
function hierarchies(): string[] {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n')
  return mounts.flatMap((line) => {
    const [, path = '', type, options = ''] = line.split(' ')
    return type === 'cgroup2' || (type === 'cgroup' && options.split(',').includes('name=systemd')) ? [path] : []
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
