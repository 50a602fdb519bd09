/**
 * The program behind `forgetful.ts`: one disk in memory, mounted through /dev/fuse. It runs as a child, since a test
 * that touches the mount blocks until it is answered. Needs root. Orders come over the IPC channel; when that
 * closes, the mount is taken away and the program ends.
 */
import { spawn } from 'node:child_process'
import { closeSync, openSync, read, writeSync } from 'node:fs'
import { Dice } from '../chaos/dice.ts'
import { ForgetfulDisk, type Cut, type CutReport } from './forgetful-disk.ts'
import { REQUEST_MAX } from './forgetful-frames.ts'
import { FuseRequests, type Fault } from './forgetful-fuse.ts'

export type Order =
  | { readonly kind: 'mount' }
  | { readonly kind: 'cut'; readonly seed: number | 'names' | undefined }
  | { readonly kind: 'limit'; readonly changes: number | undefined }
  | { readonly kind: 'change' }
  | { readonly kind: 'lit' }
  | { readonly kind: 'changes' }
  | { readonly kind: 'save' }
  | { readonly kind: 'load' }
  | { readonly kind: 'fail'; readonly fault: Fault | undefined }
  | { readonly kind: 'unmount' }
  | { readonly kind: 'syncs' }

export type Done = { readonly error: string } | { readonly value: CutReport | number | undefined }

const point = process.argv[2] ?? ''
let disk = new ForgetfulDisk()
let requests = new FuseRequests(disk)
let saved = disk
let mounted: { readonly fd: number; frozen: boolean } | undefined

async function obey(order: Order): Promise<CutReport | number | undefined> {
  switch (order.kind) {
    case 'mount':
      return mount()
    case 'cut':
      return cut(order.seed)
    case 'unmount':
      return unmount()
    case 'syncs':
      return disk.syncs
    case 'limit':
      requests.left = order.changes ?? Infinity
      requests.isDark = false
      requests.changes = 0
      return undefined
    case 'change':
      return requests.change() ? 1 : 0
    case 'lit':
      return requests.isDark ? 0 : 1
    case 'changes':
      return requests.changes
    case 'save':
      saved = disk.copy()
      return undefined
    case 'load':
      return load()
    case 'fail':
      requests.fault = order.fault
      if (mounted !== undefined) for (const request of requests.held.splice(0)) answer(mounted, request)
      return undefined
  }
}

async function load(): Promise<undefined> {
  await unmount()
  disk = saved.copy()
  requests = new FuseRequests(disk)
  await mount()
}

async function mount(): Promise<undefined> {
  const mount = { fd: openSync('/dev/fuse', 'r+'), frozen: false }
  mounted = mount
  serve(mount, Buffer.alloc(REQUEST_MAX))
  const options = 'fd=3,rootmode=40000,user_id=0,group_id=0,allow_other'
  await run('mount', ['-i', '-t', 'fuse.forgetful', '-o', options, 'forgetful', point], mount.fd)
}

/** Reads requests until the kernel has let go of the mount. */
function serve(mount: { readonly fd: number; frozen: boolean }, buffer: Buffer): void {
  read(mount.fd, buffer, 0, buffer.length, null, (error, length) => {
    if (error?.code === 'EINTR' || error?.code === 'EAGAIN') return serve(mount, buffer)
    // Not mounted yet.
    if (error?.code === 'EPERM') return void setTimeout(() => serve(mount, buffer), 1)
    if (error !== null || length === 0) return closeSync(mount.fd)
    answer(mount, buffer.subarray(0, length))
    serve(mount, buffer)
  })
}

function answer(mount: { readonly fd: number; frozen: boolean }, request: Buffer): void {
  const bytes = mount.frozen ? undefined : requests.answer(request)
  if (bytes === undefined) return
  try {
    writeSync(mount.fd, bytes)
  } catch (error) {
    // The asker was killed while it waited: nobody is there to be told.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}

/** From this instant nothing more is answered: who waits for an fsync waits until it is killed. */
function cut(seed: number | 'names' | undefined): CutReport {
  if (mounted !== undefined) mounted.frozen = true
  requests.left = Infinity
  requests.isDark = false
  return disk.cut(cutOf(seed))
}

function cutOf(seed: number | 'names' | undefined): Cut {
  if (typeof seed !== 'number') return { kind: seed ?? 'forget' }
  const dice = new Dice(seed)
  return { kind: 'tear', dice: () => dice.unit() }
}

/** Forced: whoever waits in the mount gets an error, and the kernel's cache of it is dropped. */
async function unmount(): Promise<undefined> {
  if (mounted === undefined) return
  mounted = undefined
  await run('umount', ['-f', '-l', point])
}

function run(program: string, args: readonly string[], fd?: number): Promise<undefined> {
  const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit', fd ?? 'ignore'] })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => (code === 0 ? resolve(undefined) : reject(new Error(`${program} ${args.join(' ')} ended with ${code}`))))
  })
}

process.on('message', (order: Order) => {
  obey(order).then(
    (value) => process.send?.({ value } satisfies Done),
    (error: unknown) => process.send?.({ error: error instanceof Error ? error.message : String(error) } satisfies Done),
  )
})
process.on('disconnect', () => {
  unmount()
    .catch((error: unknown) => console.error(error))
    .finally(() => process.exit())
})
