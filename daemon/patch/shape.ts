/** Small readers for values that others wrote: each gives the value, or throws a `Misshapen` with what is wrong and where. */
export class Misshapen extends Error {}

export type Reader<T> = (value: unknown, where: string) => T

function wrong(where: string, what: string): never {
  throw new Misshapen(`${where === '' ? 'it' : where} is ${what}`)
}

export function text(max: number): Reader<string> {
  return (value, where) => (typeof value === 'string' && value.length <= max ? value : wrong(where, `no text of at most ${max} characters`))
}

export function matching(pattern: RegExp, what: string): Reader<string> {
  return (value, where) => (typeof value === 'string' && pattern.test(value) ? value : wrong(where, `no ${what}`))
}

/** RFC 3339, UTC, ms: as this program writes it. */
export const instant = matching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z$/, 'instant such as 2026-11-24T00:00:00.000Z')

export function whole(min: number, max = Number.MAX_SAFE_INTEGER): Reader<number> {
  return (value, where) =>
    typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max
      ? value
      : wrong(where, `no whole number from ${min} to ${max}`)
}

export const flag: Reader<boolean> = (value, where) => (typeof value === 'boolean' ? value : wrong(where, 'neither true nor false'))

export function oneOf<const W extends string | number>(...words: readonly W[]): Reader<W> {
  return (value, where) => words.find((word) => word === value) ?? wrong(where, `none of ${words.join(', ')}`)
}

export function orNull<T>(reader: Reader<T>): Reader<T | null> {
  return (value, where) => (value === null ? null : reader(value, where))
}

export function listOf<T>(item: Reader<T>, max: number): Reader<readonly T[]> {
  return (value, where) => {
    if (!Array.isArray(value) || value.length > max) return wrong(where, `no list of at most ${max}`)
    return value.map((one, index) => item(one, `${where}[${index}]`))
  }
}

/** Without a prototype: a name is never special. */
export function mapOf<T>(entry: Reader<T>, max: number): Reader<Readonly<Record<string, T>>> {
  return (value, where) => {
    const entries = Object.entries(objectAt(value, where))
    if (entries.length > max) return wrong(where, `no map of at most ${max}`)
    const map = Object.create(null) as Record<string, T>
    for (const [name, one] of entries) map[name] = entry(one, `${where}.${name.slice(0, 64)}`)
    return map
  }
}

type Readers = Readonly<Record<string, Reader<unknown>>>
type Read<R extends Readers> = { readonly [K in keyof R]: R[K] extends Reader<infer T> ? T : never }

/** What must be there, and what may; members that this release does not know are left out. */
export function record<R extends Readers, O extends Readers = Record<never, never>>(
  needed: R,
  optional?: O,
): Reader<Read<R> & Partial<Read<O>>> {
  return (value, where) => {
    const from = objectAt(value, where)
    const at = (name: string): string => (where === '' ? name : `${where}.${name}`)
    const result: Record<string, unknown> = {}
    for (const [name, reader] of Object.entries(needed)) result[name] = reader(from[name], at(name))
    for (const [name, reader] of Object.entries(optional ?? {})) if (from[name] !== undefined) result[name] = reader(from[name], at(name))
    return result as Read<R> & Partial<Read<O>>
  }
}

function objectAt(value: unknown, where: string): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, unknown>>)
    : wrong(where, 'no map')
}
