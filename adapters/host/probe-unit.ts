/** What systemd knows of a unit, and the end of its journal. */
import { existsSync } from 'node:fs'
import { output, properties } from './probe-run.ts'
import type { UnitFound } from '../../daemon/doctor/facts.ts'

/** `undefined` where systemd does not run. */
export async function lookAtUnit(unit: string, timeoutMs: number): Promise<UnitFound | undefined> {
  if (!existsSync('/run/systemd/system')) return undefined
  const names = 'LoadState,ActiveState,SubState,UnitFileState,NRestarts,Result,ExecMainStatus'
  const told = await output('systemctl', ['show', `--property=${names}`, '--', unit], timeoutMs)
  if (told === undefined || told.code !== 0) return undefined
  const value = properties(told.out)
  return {
    load: value['LoadState'] ?? '',
    active: value['ActiveState'] ?? '',
    sub: value['SubState'] ?? '',
    enabled: value['UnitFileState'] ?? '',
    restarts: Number(value['NRestarts'] ?? 0),
    result: value['Result'] ?? '',
    exitStatus: Number(value['ExecMainStatus'] ?? 0),
  }
}

export async function systemdVersion(timeoutMs: number): Promise<string | undefined> {
  const told = await output('systemctl', ['--version'], timeoutMs)
  return /^systemd (\S+)/.exec(told?.out ?? '')?.[1]
}

/** The last lines of the unit's journal, oldest first; or why there are none. */
export async function journalEnd(
  unit: string,
  lines: number,
  timeoutMs: number,
): Promise<{ readonly text: string } | { readonly missing: string }> {
  const told = await output('journalctl', ['-u', unit, '-n', String(lines), '-o', 'short-iso', '--no-pager', '-q'], timeoutMs, 4 << 20)
  if (told === undefined) return { missing: 'there is no journalctl on this box' }
  if (told.out.trim() === '')
    return { missing: told.err.trim() === '' ? `the journal has nothing of ${unit}` : told.err.trim().slice(0, 300) }
  return { text: told.out }
}
