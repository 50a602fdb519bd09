/** The disk below a folder: room, kind, speed of its fsync, what was written to it, and what life it has left. */
import { readFileSync, statfsSync, statSync } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { DiskFound, Life, SyncFound } from '../../daemon/doctor/facts.ts'

export function lookAtDisk(path: string): DiskFound {
  const folder = existing(path)
  const { bsize, blocks, bavail, files, ffree } = statfsSync(folder)
  const { dev } = statSync(folder)
  const device = { major: (dev >> 8) & 0xfff, minor: (dev & 0xff) | ((dev >> 12) & 0xfff00) }
  return {
    folder,
    totalBytes: blocks * bsize,
    freeBytes: bavail * bsize,
    inodes: files,
    inodesFree: ffree,
    ...mountOf(folder),
    ...blockDevice(`${device.major}:${device.minor}`),
  }
}

function existing(path: string): string {
  for (let folder = path; ; folder = dirname(folder)) {
    if (statSync(folder, { throwIfNoEntry: false }) !== undefined || folder === dirname(folder)) return folder
  }
}

/** proc_pid_mountinfo(5). The last mount of the longest path is the one in force. */
function mountOf(folder: string): Partial<DiskFound> {
  let best: { readonly point: string; readonly found: Partial<DiskFound> } | undefined
  for (const line of text('/proc/self/mountinfo').split('\n')) {
    const [before = '', after = ''] = line.split(' - ')
    const [, , , , point = '', options = ''] = before.split(' ')
    const [fileSystem = '', device = '', superOptions = ''] = after.split(' ')
    const path = point.replaceAll('\\040', ' ')
    if (path === '' || (folder !== path && !folder.startsWith(path === '/' ? '/' : `${path}/`))) continue
    if (best !== undefined && path.length < best.point.length) continue
    const readOnly = options.split(',').includes('ro') || superOptions.split(',').includes('ro')
    best = { point: path, found: { fileSystem, device, readOnly } }
  }
  return best?.found ?? {}
}

function blockDevice(numbers: string): Partial<DiskFound> {
  const base = `/sys/dev/block/${numbers}`
  if (statSync(base, { throwIfNoEntry: false }) === undefined) return {}
  // A partition stands below its disk.
  const disk = statSync(join(base, 'queue'), { throwIfNoEntry: false }) === undefined ? join(base, '..') : base
  const name = /^DEVNAME=(.+)$/m.exec(text(join(disk, 'uevent')))?.[1] ?? ''
  // block/stat: the seventh field is sectors written, of 512 bytes (kernel, Documentation/block/stat.rst).
  const sectors = Number(text(join(disk, 'stat')).split(/\s+/)[6])
  const life = lifeOf(disk)
  return {
    kind: kindOf(name, text(join(disk, 'queue/rotational')) === '1'),
    ...(Number.isFinite(sectors) && { writtenBytes: sectors * 512 }),
    ...(life && { life }),
  }
}

function kindOf(name: string, rotational: boolean): string {
  if (name.startsWith('mmcblk')) return 'eMMC or SD card'
  if (name.startsWith('nvme')) return 'NVMe'
  if (/^(vd|xvd)/.test(name)) return 'virtual disk'
  return rotational ? 'spinning disk' : 'SSD'
}

function lifeOf(disk: string): Life | undefined {
  const tenths = text(join(disk, 'device/life_time'))
    .split(/\s+/)
    .map((part) => Number.parseInt(part, 16))
    .filter((value) => value > 0)
  if (tenths.length === 0) return undefined
  const preEndOfLife = Number.parseInt(text(join(disk, 'device/pre_eol_info')), 16)
  return { usedPercentMost: Math.max(...tenths) * 10, ...(preEndOfLife > 0 && { preEndOfLife }) }
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    // Not on this box, or not ours to read.
    return ''
  }
}

const BLOCK = Buffer.alloc(4_096, 0x5a)
/** 200 blocks are 800 KiB. */
const TIMES_MAX = 200
const TIME_MAX_MS = 1_000

/**
 * Writes and syncs blocks of 4 KiB in a file of its own, for a second at most; rejects with Node's error. The file has
 * lost its name before the first write, so nothing is left of it, however this ends. Off the loop: a daemon may look too.
 */
export async function timeSync(folder: string): Promise<SyncFound> {
  const path = join(folder, `.speed-${process.pid}`)
  const times: number[] = []
  const file = await open(path, 'wx', 0o600)
  try {
    await rm(path)
    const until = performance.now() + TIME_MAX_MS
    while (times.length < TIMES_MAX && performance.now() < until) {
      const started = performance.now()
      await file.write(BLOCK)
      await file.datasync()
      times.push(performance.now() - started)
    }
  } finally {
    await file.close()
  }
  times.sort((a, b) => a - b)
  const at = (share: number): number => Math.round((times[Math.min(times.length - 1, Math.floor(share * times.length))] ?? 0) * 100) / 100
  return { times: times.length, p50Ms: at(0.5), p99Ms: at(0.99) }
}

/** Bytes that this program caused to be written to disks since its start (proc_pid_io(5)); own programs and root only. */
export function writtenBy(pid: number): number | undefined {
  const bytes = Number(/^write_bytes: (\d+)$/m.exec(text(`/proc/${pid}/io`))?.[1])
  return Number.isFinite(bytes) ? bytes : undefined
}
