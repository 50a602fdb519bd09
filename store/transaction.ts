/** One writing transaction, with what must follow its commit or its rollback in memory. */
import type { Database, Statement } from 'better-sqlite3'

export class Transaction {
  readonly #after: (() => void)[] = []
  readonly #undo: (() => void)[] = []

  /** Runs once the commit is fsynced. Memory must not run ahead of the disk. */
  afterCommit(fn: () => void): void {
    this.#after.push(fn)
  }

  onRollback(fn: () => void): void {
    this.#undo.push(fn)
  }

  committed(): void {
    for (const fn of this.#after) fn()
  }

  rolledBack(): void {
    for (const fn of this.#undo.reverse()) fn()
  }
}

export class Transactions {
  readonly #db: Database
  readonly #begin: Statement
  readonly #commit: Statement
  readonly #rollback: Statement
  commits = 0

  constructor(db: Database) {
    this.#db = db
    this.#begin = db.prepare('BEGIN IMMEDIATE')
    this.#commit = db.prepare('COMMIT')
    this.#rollback = db.prepare('ROLLBACK')
  }

  /** Runs `work` in a transaction; on any error nothing of it remains, and the error is thrown on. */
  run<T>(work: (transaction: Transaction) => T): T {
    const transaction = new Transaction()
    let result: T
    try {
      this.#begin.run()
      result = work(transaction)
      this.#commit.run()
    } catch (error) {
      // SQLite rolls back by itself on a full disk or an I/O error.
      if (this.#db.inTransaction) this.#rollback.run()
      transaction.rolledBack()
      throw error
    }
    this.commits++
    transaction.committed()
    return result
  }
}
