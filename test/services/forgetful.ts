/**
 * A file system that forgets what was not fsynced, for tests of a power cut: a real mount (FUSE), so that SQLite,
 * Node and mmap use it like any other. Needs Linux and root.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { CutReport } from './forgetful-disk.ts'
import type { Fault } from './forgetful-fuse.ts'
import type { Done, Order } from './forgetful-server.ts'
import type { ServiceScope } from './scope.ts'

export interface ForgetfulMount {
  readonly path: string
  /**
   * The power is cut: nothing is answered from this instant, and what was not synced is gone. With a seed, un-synced
   * writes survive by chance, whole or torn; with `names` all names survive and no bytes; without either nothing does.
   * Kill whoever uses the mount, then `restore`.
   */
  cut(seed?: number | 'names'): Promise<CutReport>
  /**
   * The power fails after so many changes and fsyncs: what comes then is answered with EIO, until the cut.
   * Undefined: never.
   */
  limit(changes: number | undefined): Promise<void>
  /** Counts a change that happens elsewhere on the box; false: the power failed before it. */
  change(): Promise<boolean>
  isLit(): Promise<boolean>
  /** Changes and fsyncs since `limit`. */
  changes(): Promise<number>
  /** Remembers the disk as it is, all of it synced; `load` mounts that again. */
  save(): Promise<void>
  load(): Promise<void>
  /** The power is back: the same place shows what the disk kept. */
  restore(): Promise<void>
  /** The operation fails or hangs on files of this name; undefined heals it, and what hung is carried out. */
  fail(fault: Fault | undefined): Promise<void>
  /** fsyncs that the disk was asked for since the start. */
  syncs(): Promise<number>
}

/** Mounts an empty one at `path` until the end of the scope. Rejects where mounts are not allowed. */
export async function mountForgetful(scope: ServiceScope, path: string): Promise<ForgetfulMount> {
  mkdirSync(path, { recursive: true })
  const server = fork(fileURLToPath(new URL('./forgetful-server.ts', import.meta.url)), [path], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  scope.atEnd(async () => {
    if (server.exitCode !== null) return
    const ended = once(server, 'exit')
    server.disconnect()
    await ended
  })
  await tell(server, { kind: 'mount' })
  return {
    path,
    cut: (seed) => tell(server, { kind: 'cut', seed }) as Promise<CutReport>,
    limit: async (changes) => void (await tell(server, { kind: 'limit', changes })),
    change: async () => (await tell(server, { kind: 'change' })) === 1,
    isLit: async () => (await tell(server, { kind: 'lit' })) === 1,
    changes: () => tell(server, { kind: 'changes' }) as Promise<number>,
    save: async () => void (await tell(server, { kind: 'save' })),
    load: async () => void (await tell(server, { kind: 'load' })),
    restore: async () => {
      await tell(server, { kind: 'unmount' })
      await tell(server, { kind: 'mount' })
    },
    fail: async (fault) => void (await tell(server, { kind: 'fail', fault })),
    syncs: () => tell(server, { kind: 'syncs' }) as Promise<number>,
  }
}

/** Orders are carried out one after the other. */
async function tell(server: ChildProcess, order: Order): Promise<CutReport | number | undefined> {
  const over = new AbortController()
  const answered = once(server, 'message', { signal: over.signal }).then(([message]) => message as Done)
  const ended = once(server, 'exit', { signal: over.signal }).then((): Done => ({ error: 'the forgetful file system ended' }))
  server.send(order)
  const done = await Promise.race([answered, ended])
  over.abort()
  await Promise.allSettled([answered, ended])
  if ('error' in done) throw new Error(`${order.kind}: ${done.error}`)
  return done.value
}
