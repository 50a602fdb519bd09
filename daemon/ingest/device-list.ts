/** The list of known devices: one id or glob a line, as in `limits.overrides`; `#` begins a comment line. */
import { globMatches } from './limit-classes.ts'

/** Throws when the list names nobody: a file cut short by accident must not shut out every device. */
export function parseDeviceList(text: string): (device: string) => boolean {
  const entries = text
    .replace(/^\uFEFF/, '')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
  if (entries.length === 0) throw new Error('it names no device; write one id or pattern a line, or * for every device')
  const ids = new Set(entries)
  const globs = entries.filter((entry) => /[*?]/.test(entry))
  return (device) => ids.has(device) || globs.some((glob) => globMatches(glob, device))
}
