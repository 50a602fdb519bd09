/** The table `memory` of `state.db`: what the patch path remembers, as JSON text under keys with `/`. */
import type { Database } from 'better-sqlite3'
import { GatewayError, messageOf } from '../daemon/errors.ts'
import { isDamage, isDiskFull, isLocked } from './damage.ts'
import type { Question, Remembered, Rewrite, WireError } from './protocol.ts'

/** Sorts behind every key below a prefix. */
const LAST = '\u{10ffff}'

/** One transaction, fsynced when this returns. Throws SQLite's errors, with nothing changed. */
export function remember(db: Database, changes: readonly Rewrite[]): void {
  const put = db.prepare('INSERT INTO memory (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value')
  const drop = db.prepare('DELETE FROM memory WHERE key = ?')
  db.transaction(() => {
    for (const [key, text] of changes) {
      if (text === undefined) drop.run(key)
      else put.run(key, text)
    }
  }).immediate()
}

/** In the order of the keys. */
export function recall(db: Database, prefix: string): Remembered[] {
  const rows = db.prepare('SELECT key, value FROM memory WHERE key >= ? AND key < ? ORDER BY key').raw()
  return rows.all(prefix, prefix + LAST) as [string, string][]
}

interface Table {
  remember(changes: readonly Rewrite[]): void
  recall(prefix: string): Remembered[]
}

/** Throws what the daemon can't go on with. */
export function answerMemory(
  table: Table,
  question: Extract<Question, { kind: 'remember' | 'recall' }>,
): WireError | readonly Remembered[] | undefined {
  try {
    return question.kind === 'recall' ? table.recall(question.prefix) : void table.remember(question.changes)
  } catch (error) {
    if (question.kind === 'remember' && (isDiskFull(error) || isLocked(error))) return refusal(error)
    if (!isDamage(error)) throw error
    // Not as damage of the outbox: that would be salvaged for nothing. The next start looks at state.db by itself.
    throw new GatewayError('fatal', `state.db is damaged: ${messageOf(error)}`, {
      remedy: 'Check the disk; the gateway starts again by itself with a new one.',
      cause: error,
    })
  }
}

function refusal(error: unknown): WireError {
  return isDiskFull(error)
    ? { kind: 'saturated', message: 'the disk is full: state.db can not be written', remedy: 'Make room on the disk.' }
    : { kind: 'saturated', message: 'another program holds a lock on state.db', remedy: 'End that program.' }
}
