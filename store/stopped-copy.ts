/** Copies of the databases of a daemon that is down, and a look at a copy. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import BetterSqlite from 'better-sqlite3'
import { GatewayError, messageOf } from '../daemon/errors.ts'
import { copyDatabases } from './copying.ts'
import { isDamage, leftToTheStart } from './damage.ts'
import { lockDirectory } from './lock.ts'
import { checkHeader } from './header.ts'
import { OUTBOX_FILE } from './opening.ts'
import { STATE_FILE } from './state.ts'

/** Throws `transient` when a daemon owns the directory, `rejected` or `saturated` when there is no copy. */
export async function copyStopped(dataDir: string, directory: string): Promise<void> {
  const names = [STATE_FILE, OUTBOX_FILE].filter((name) => existsSync(join(dataDir, name)))
  if (names.length === 0)
    throw new GatewayError('rejected', `there is no buffer in ${dataDir}`, { remedy: 'check gateway.dataDir, or use sudo' })
  const lock = lockDirectory(dataDir)
  try {
    for (const name of names) assertWhole(join(dataDir, name), name)
    const sources = names.map((name) => ({ name, db: new BetterSqlite(join(dataDir, name), { fileMustExist: true }) }))
    const refused = await copyDatabases(sources, directory)
    for (const { db } of sources) db.close()
    if (refused !== undefined)
      throw new GatewayError(refused.kind, refused.message, refused.remedy === undefined ? {} : { remedy: refused.remedy })
  } finally {
    lock.close()
  }
}

/** Also before SQLite opens it to write, which throws the log of a shortened file away. */
function assertWhole(path: string, name: string): void {
  try {
    checkHeader(path)
  } catch (error) {
    if (!isDamage(error)) throw error
    throw leftToTheStart(`${name} is damaged (${messageOf(error)})`)
  }
}

/** What is wrong with a copy; undefined when it is whole. */
export function faultOf(path: string): string | undefined {
  try {
    const db = new BetterSqlite(path, { readonly: true, fileMustExist: true })
    try {
      const verdict = db.pragma('quick_check(1)', { simple: true }) as string
      return verdict === 'ok' ? undefined : verdict
    } finally {
      db.close()
    }
  } catch (error) {
    return messageOf(error)
  }
}
