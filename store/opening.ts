/**
 * From a directory to an open outbox: place, lock, `state.db`, the file itself. A file that is not whole is set
 * aside, salvaged and replaced, so that a corrupt buffer never stops the start.
 */
import { existsSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { Database } from 'better-sqlite3'
import { GatewayError, messageOf } from '../daemon/errors.ts'
import { DamagedFile, isDamage, isDiskFull, leftToTheStart } from './damage.ts'
import { openGuard, openWritable, PAGE_BYTES, syncDirectory } from './database.ts'
import { Engine } from './engine.ts'
import { checkHeader } from './header.ts'
import { lockDirectory } from './lock.ts'
import { prepareDirectory } from './place.ts'
import type { Notice, WorkerStart } from './protocol.ts'
import { Reserve } from './reserve.ts'
import { salvage } from './salvage.ts'
import { assertTables } from './salvage-rows.ts'
import { removeDatabase } from './salvage-source.ts'
import { migrate } from './schema.ts'
import { openState } from './state.ts'
import type { StateFile } from './state.ts'

export const OUTBOX_FILE = 'outbox.db'
/** Half-built, worthless. */
const BUILDING = 'outbox.salvaging'
/** Complete; only the renames are missing. */
const BUILT = 'outbox.salvaged'
const ASIDE = 'outbox.corrupt-'
/** Damaged files that are kept for a person to look at; older ones go, or they fill the disk. */
const KEEP_ASIDE = 2
/** A whole check reads the whole file; beyond this size it would cost the start more than a second or so. */
const QUICK_CHECK_MAX_BYTES = 32 << 20

export interface OpenStore {
  readonly engine: Engine
  /** Open as long as the engine's database; closed before it in a clean end, after it in any other. */
  readonly guard: Database
  readonly state: StateFile
  readonly lock: Database
  readonly reserve: Reserve
  readonly notices: Notice[]
}

/** Throws a `fatal` GatewayError when the directory can't be used. */
export function openStore(start: WorkerStart): OpenStore {
  const notices: Notice[] = []
  const tell = (level: Notice['level'], text: string): number => notices.push({ level, text })
  const warning = prepareDirectory(start.directory)
  if (warning !== undefined) tell('warn', warning)
  const reserve = new Reserve(start.directory)
  const lock = lockDirectory(start.directory)
  try {
    return withRoom(reserve, () => {
      const state = openState(start.directory, stampOf(start), (text) => tell('error', text), start.whenDamaged)
      const engine = openEngine(start, state, tell)
      if (!reserve.take()) tell('warn', 'the disk is full: there is no room for the reserve that deletes need')
      noteRunning(state)
      return { engine, guard: openGuard(engine.db.name), state, lock, reserve, notices }
    })
  } catch (error) {
    lock.close()
    throw error
  }
}

/** On a full disk even opening needs room (shared memory, a journal): that is what the reserve is for. */
function withRoom<Result>(reserve: Reserve, open: () => Result): Result {
  try {
    return open()
  } catch (error) {
    if (!reserve.held || !(isDiskFull(error) || isShortOfRoom(error))) throw error
    reserve.giveUp()
    return open()
  }
}

/** SQLite's word for a shared-memory file that could not grow. */
function isShortOfRoom(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && error.code.startsWith('SQLITE_IOERR_SHM')
}

function noteRunning(state: StateFile): void {
  try {
    state.suspicion = undefined
    state.running = true
  } catch (error) {
    // On a full disk the start goes on: at worst the next one checks more, or less, than it would.
    if (!isDiskFull(error)) throw error
  }
}

function openEngine(start: WorkerStart, state: StateFile, tell: (level: Notice['level'], text: string) => void): Engine {
  finishSalvage(start.directory, stampOf(start))
  const path = join(start.directory, OUTBOX_FILE)
  try {
    if (!existsSync(path) && (state.note !== undefined || state.running)) return afterLoss(start, state, tell, 'outbox.db is gone')
    if (state.suspicion !== undefined) throw new DamagedFile(state.suspicion)
    return openWhole(start, path, state.running)
  } catch (error) {
    if (!isDamage(error)) throw error
    return afterLoss(start, state, tell, `outbox.db is damaged (${messageOf(error)})`)
  }
}

function openWhole(start: WorkerStart, path: string, unclean: boolean): Engine {
  const fresh = !existsSync(path)
  if (!fresh) checkHeader(path)
  const db = openWritable(path)
  try {
    migrate(db)
    assertTables(db)
    // The log's pages are written anew here: after a failed fsync the cache may show what the disk never got.
    db.pragma('wal_checkpoint(TRUNCATE)')
    if (fresh) syncDirectory(start.directory)
    checkWhole(db, path, unclean)
    return new Engine(db, start)
  } catch (error) {
    db.close()
    throw error
  }
}

function checkWhole(db: Database, path: string, unclean: boolean): void {
  const pages = db.pragma('page_count', { simple: true }) as number
  const { size } = statSync(path)
  if (size < pages * PAGE_BYTES) throw new DamagedFile(`the file has ${size} bytes instead of ${pages * PAGE_BYTES}`)
  if (!unclean || size > QUICK_CHECK_MAX_BYTES) return
  const verdict = db.pragma('quick_check(1)', { simple: true }) as string
  if (verdict !== 'ok') throw new DamagedFile(verdict)
}

function afterLoss(start: WorkerStart, state: StateFile, tell: (level: Notice['level'], text: string) => void, what: string): Engine {
  const { directory } = start
  if (start.whenDamaged === 'refuse') throw leftToTheStart(what)
  const path = join(directory, OUTBOX_FILE)
  const { note } = state
  const result = salvage({
    source: path,
    target: join(directory, BUILDING),
    note,
    wallMs: start.now.wallMs,
    freshEpoch: (id) => createHash('sha256').update(`${start.epoch}/${id}`).digest('hex').slice(0, 16),
  })
  renameSync(join(directory, BUILDING), join(directory, BUILT))
  syncDirectory(directory)
  const aside = finishSalvage(directory, stampOf(start))
  const age =
    note === undefined
      ? ' No totals are known apart from it, so the loss may be larger.'
      : ` The last totals known apart from it are of ${new Date(note.atMs).toISOString()}.`
  // After a clean stop the last totals are complete. Else the last commits may be gone together with their count.
  const least = note !== undefined && state.running ? leastLoss(result.lostMessages) : ''
  tell(
    'error',
    `${what}. ${aside === undefined ? '' : `It is set aside as ${aside}. `}${result.rescued} messages were saved, ${result.lostMessages} are lost and counted as such.${least}${age}${result.texts.map((text) => ` ${text}.`).join('')}`,
  )
  return openWhole(start, path, false)
}

function leastLoss(messages: number): string {
  return ` ${messages === 0 ? 'More may be lost' : `At least ${messages} messages are lost`}: what was committed last can be gone without a trace.`
}

/** Puts a built file in the place of the damaged one. A crash between any two steps is finished at the next start. */
function finishSalvage(directory: string, stamp: string): string | undefined {
  removeDatabase(join(directory, BUILDING))
  const built = join(directory, BUILT)
  if (!existsSync(built)) return undefined
  const path = join(directory, OUTBOX_FILE)
  const aside = freeName(join(directory, `${ASIDE}${stamp}`))
  // The log first: beside the new file it would be replayed into it.
  if (existsSync(`${path}-wal`)) renameSync(`${path}-wal`, `${aside}-wal`)
  rmSync(`${path}-shm`, { force: true })
  syncDirectory(directory)
  const old = existsSync(path)
  if (old) renameSync(path, aside)
  renameSync(built, path)
  syncDirectory(directory)
  forgetOldest(directory)
  return old ? aside : undefined
}

function freeName(path: string): string {
  for (let number = 1; ; number++) {
    const name = number === 1 ? path : `${path}-${number}`
    if (!existsSync(name)) return name
  }
}

function forgetOldest(directory: string): void {
  const paths = readdirSync(directory)
    .filter((name) => name.startsWith(ASIDE) && !name.endsWith('-wal'))
    .map((name) => join(directory, name))
  // The rename set the change time; names go by a wall clock that may have jumped.
  const oldestFirst = paths.map((path) => ({ path, atMs: statSync(path).ctimeMs })).sort((a, b) => a.atMs - b.atMs)
  for (const { path } of oldestFirst.slice(0, -KEEP_ASIDE)) removeDatabase(path)
}

function stampOf(start: WorkerStart): string {
  return new Date(start.now.wallMs).toISOString().replaceAll(/[-:]|\.\d+/g, '')
}

/** Any error of a start as one that the daemon can show. */
export function openingError(error: unknown, directory: string): GatewayError {
  if (error instanceof GatewayError) return error
  return new GatewayError('fatal', `the buffer in ${directory} can't be opened: ${messageOf(error)}`, {
    remedy: isDiskFull(error) ? 'Make room on the disk.' : 'Check the rights of the data directory and the health of the disk.',
    cause: error,
  })
}
