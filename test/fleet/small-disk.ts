/** A small file system of its own, to be filled up. Needs root; a mount that fails is an error. */
import { execFileSync } from 'node:child_process'
import { appendFileSync, mkdirSync, rmSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import type { ServiceScope } from '../services/index.ts'

export interface SmallDisk {
  readonly path: string
  /** What another program does: takes all that is free. */
  fill(): void
  /** Gives back what `fill` took. */
  free(): void
  freeBytes(): number
}

/** Somebody else may be faster. */
function take(path: string, bytes: number): void {
  try {
    appendFileSync(path, Buffer.alloc(bytes, 1))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
  }
}

/** A tmpfs until the end of the scope. */
export function mountSmallDisk(scope: ServiceScope, mib: number): SmallDisk {
  const path = join(scope.folder(), 'disk')
  mkdirSync(path)
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mib}m`, 'tmpfs', path])
  scope.atEnd(() => void execFileSync('umount', ['-l', path]))
  const ballast = join(path, 'ballast')
  const freeBytes = (): number => {
    const { bavail, bsize } = statfsSync(path)
    return bavail * bsize
  }
  return {
    path,
    freeBytes,
    fill: () => {
      for (let left = freeBytes(); left > 0; left = freeBytes()) take(ballast, left)
    },
    free: () => rmSync(ballast),
  }
}
