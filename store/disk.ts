/** What kind of disk a directory lies on, for the commit delay. */
import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

export type DiskKind = 'flash-card' | 'rotating' | 'solid-state' | 'unknown'

/** How long a commit may linger at low rates, ms: what a small commit costs is pages, and cards wear by them. */
export function autoDelayMs(kind: DiskKind): number {
  return kind === 'solid-state' ? 50 : 100
}

/** SD cards and eMMC wear by the page written; they are `mmcblk*` in sysfs. */
export function diskKind(directory: string, sysfs = '/sys'): DiskKind {
  const { dev } = statSync(directory)
  const link = join(sysfs, 'dev/block', `${majorOf(dev)}:${minorOf(dev)}`)
  if (!existsSync(link)) return 'unknown'
  const device = realpathSync(link)
  const disk = existsSync(join(device, 'partition')) ? dirname(device) : device
  if (basename(disk).startsWith('mmcblk')) return 'flash-card'
  const rotational = join(disk, 'queue/rotational')
  if (!existsSync(rotational)) return 'unknown'
  return readFileSync(rotational, 'utf8').trim() === '1' ? 'rotating' : 'solid-state'
}

/** Linux's encoding of device numbers: 12 bits of major, 20 of minor, split in two (makedev(3)). */
function majorOf(dev: number): number {
  return Math.floor(dev / 256) % 4096
}

function minorOf(dev: number): number {
  return (dev % 256) + (Math.floor(dev / 2 ** 20) % 4096) * 256
}
