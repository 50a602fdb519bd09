/** Reading rows out of a table whose pages are partly unreadable: from both ends, and around each bad place. */
import type { Database } from 'better-sqlite3'
import { isDamage } from './damage.ts'

/** How a table is walked by its integer key. Each call may throw because of a damaged page. */
interface Walk {
  /** The lowest key above `key`. */
  after(key: number): number | undefined
  /** The highest key below `key`. */
  before(key: number): number | undefined
}

export interface DamagedTable<Row> {
  /** Readable rows in the order of their keys. */
  readonly rows: Iterable<Row>
  /** True once a place was met that could not be read. */
  readonly damaged: () => boolean
}

/** Rows of `table` by their integer `key` column; `highest` bounds the search behind a bad place. */
export function readDamaged<Row>(db: Database, table: string, key: string, highest: number): DamagedTable<Row> {
  let damaged = false
  const attempt = <Result>(read: () => Result): Result | 'unreadable' => {
    try {
      return read()
    } catch (error) {
      if (!isDamage(error)) throw error
      damaged = true
      return 'unreadable'
    }
  }
  const whole = attempt(() => db.prepare(`SELECT * FROM ${table} WHERE ${key} = ?`))
  const after = attempt(() => db.prepare(`SELECT ${key} FROM ${table} WHERE ${key} > ? ORDER BY ${key} LIMIT 1`).pluck())
  const before = attempt(() => db.prepare(`SELECT ${key} FROM ${table} WHERE ${key} < ? ORDER BY ${key} DESC LIMIT 1`).pluck())
  if (whole === 'unreadable' || after === 'unreadable' || before === 'unreadable') return { rows: [], damaged: () => true }
  const walk: Walk = {
    after: (from) => after.get(from) as number | undefined,
    before: (to) => before.get(to) as number | undefined,
  }
  const read = (at: number): Row | undefined => whole.get(at) as Row | undefined
  function* rows(): Generator<Row> {
    for (const at of readableKeys(walk, attempt, highest)) {
      const found = attempt(() => read(at))
      if (found !== 'unreadable' && found !== undefined) yield found
    }
  }
  return { rows: rows(), damaged: () => damaged }
}

/** Rows of a small table without an integer key, as far as one scan goes. */
export function scanDamaged<Row>(db: Database, table: string): DamagedTable<Row> {
  let damaged = false
  function* rows(): Generator<Row> {
    try {
      yield* db.prepare(`SELECT * FROM ${table}`).iterate() as IterableIterator<Row>
    } catch (error) {
      if (!isDamage(error)) throw error
      damaged = true
    }
  }
  return { rows: rows(), damaged: () => damaged }
}

type Attempt = <Result>(read: () => Result) => Result | 'unreadable'

function* readableKeys(walk: Walk, attempt: Attempt, highest: number): Generator<number> {
  let at = -1
  for (;;) {
    const next = attempt(() => walk.after(at))
    if (next === undefined) return
    if (next !== 'unreadable') {
      // A damaged page may send the search back; a key that does not rise ends the walk.
      if (next <= at) return
      yield next
      at = next
      continue
    }
    const beyond = [...behindBadPlace(walk, attempt, at, highest)].reverse()
    yield* beyond
    const last = beyond.at(-1)
    if (last === undefined) return
    at = last
  }
}

/** Readable keys just behind a bad place, highest first: a probe beyond it, then backward up to it. */
function* behindBadPlace(walk: Walk, attempt: Attempt, at: number, highest: number): Generator<number> {
  let landed: number | undefined
  for (let step = 1; landed === undefined && at + step <= highest; step *= 2) {
    const probe = attempt(() => walk.after(at + step))
    if (probe === undefined) break
    if (probe !== 'unreadable' && probe > at) landed = probe
  }
  // Nothing was found on the way up: the table's end may still be reached from above.
  landed ??= numberOf(attempt(() => walk.before(Number.MAX_SAFE_INTEGER)))
  let previous = landed
  while (previous !== undefined && previous > at) {
    yield previous
    const below: number = previous
    const next = numberOf(attempt(() => walk.before(below)))
    previous = next !== undefined && next < below ? next : undefined
  }
}

function numberOf(value: number | undefined | 'unreadable'): number | undefined {
  return value === 'unreadable' ? undefined : value
}
