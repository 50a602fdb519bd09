import { printable } from './text.ts'

export interface OverrideDocument {
  readonly key: string
  readonly value: unknown
  readonly until: string
  readonly by: string
  readonly reason: string
}

/** `limits.perDevice.messagesPerSecond = 500 until 18:00, by root` */
export function overrideLine({ key, value, until, by, reason }: OverrideDocument): string {
  const why = reason === '' ? '' : ` (${reason})`
  return printable(`${key} = ${JSON.stringify(value)} until ${localTime(until)}, by ${by}${why}`)
}

/** `18:00`, or with the date when that is another day; the box's local time. */
function localTime(iso: string): string {
  const at = new Date(iso)
  const two = (part: number): string => String(part).padStart(2, '0')
  const time = `${two(at.getHours())}:${two(at.getMinutes())}`
  if (at.toDateString() === new Date().toDateString()) return time
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`
}
