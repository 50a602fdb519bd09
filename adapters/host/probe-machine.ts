/** Memory, load, heat, and what the kernel complains of. */
import { globSync, readFileSync } from 'node:fs'
import { cpus, loadavg, release, uptime } from 'node:os'
import { output } from './probe-run.ts'
import type { MachineFound } from '../../daemon/doctor/facts.ts'

export function lookAtMachine(): MachineFound {
  const memory = text('/proc/meminfo')
  const bytes = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(memory)?.[1] ?? 0) * 1_024
  const zones = globSync('/sys/class/thermal/thermal_zone*/temp').map((path) => Number(text(path)) / 1_000)
  const celsius = Math.max(...zones.filter((value) => value > 0 && value < 200))
  const throttled = Number.parseInt(text('/sys/devices/platform/soc/soc:firmware/get_throttled'), 16)
  return {
    kernel: release(),
    uptimeSeconds: Math.round(uptime()),
    cpus: cpus().length,
    load: loadavg()[1] ?? 0,
    memoryBytes: bytes('MemTotal'),
    availableBytes: bytes('MemAvailable'),
    swapBytes: bytes('SwapTotal'),
    swapFreeBytes: bytes('SwapFree'),
    ...(Number.isFinite(celsius) && { celsius }),
    ...(Number.isFinite(throttled) && { throttled }),
  }
}

const TROUBLE =
  /I\/O error|EXT4-fs error|F2FS-fs.*error|BTRFS.*error|mmc\d.*(error|timeout)|remounting filesystem read-only|Out of memory: Killed/i

/** The kernel's lines on disks and memory, the last ones; `undefined` without the right to read them. */
export async function kernelTrouble(timeoutMs: number): Promise<readonly string[] | undefined> {
  const told = await output('dmesg', ['--level=emerg,alert,crit,err,warn'], timeoutMs)
  if (told === undefined || told.code !== 0) return undefined
  return told.out
    .split('\n')
    .filter((line) => TROUBLE.test(line))
    .slice(-5)
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    // Not on this box.
    return ''
  }
}
