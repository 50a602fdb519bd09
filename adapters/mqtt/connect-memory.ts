/**
 * What must be known of a session at a broker over a restart: without it nobody could unsubscribe what an earlier
 * config wanted, nor notice that the broker lost the session.
 */
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import { messageOf } from '../../daemon/errors.ts'
import type { Log } from '../../daemon/ports.ts'

export interface RememberedSession {
  readonly clientId: string
  /** Filters that the broker may hold for us: noted before they are subscribed to, removed after UNSUBACK. */
  readonly filters: readonly string[]
  /** Those whose retained messages have come already. */
  readonly established: readonly string[]
  /** The broker's own count of dropped messages, as last read. */
  readonly dropped?: number
}

/** Sessions by broker url. */
export type RememberedSessions = Readonly<Record<string, RememberedSession>>

export interface SessionMemory {
  /** Empty when nothing is remembered; rejects when what is there can't be read. */
  load(): Promise<RememberedSessions>
  save(sessions: RememberedSessions): Promise<void>
}

/** A small JSON file, replaced whole: after a power cut it is the old one or the new one. */
export class FileMemory implements SessionMemory {
  readonly #path: string

  constructor(path: string) {
    this.#path = path
  }

  async load(): Promise<RememberedSessions> {
    try {
      return parseSessions(await readFile(this.#path, 'utf8'))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
      throw error
    }
  }

  async save(sessions: RememberedSessions): Promise<void> {
    const folder = dirname(this.#path)
    await mkdir(folder, { recursive: true })
    await writeSynced(`${this.#path}.new`, JSON.stringify({ schema: 1, sessions }))
    await rename(`${this.#path}.new`, this.#path)
    const directory = await open(folder)
    await directory.sync().finally(() => directory.close())
  }
}

async function writeSynced(path: string, text: string): Promise<void> {
  const file = await open(path, 'w', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
}

function parseSessions(text: string): RememberedSessions {
  const parsed = JSON.parse(text) as { schema?: unknown; sessions?: unknown }
  if (parsed.schema !== 1 || !Object.values(parsed.sessions ?? [null]).every(isSession)) {
    throw new Error('it holds no sessions of this version')
  }
  return parsed.sessions as RememberedSessions
}

function isSession(value: unknown): value is RememberedSession {
  const { clientId, filters, established, dropped } = (value ?? {}) as Partial<Record<keyof RememberedSession, unknown>>
  const areStrings = [filters, established].every((list) => Array.isArray(list) && list.every((one) => typeof one === 'string'))
  return typeof clientId === 'string' && areStrings && ['number', 'undefined'].includes(typeof dropped)
}

/** Enough when no file is wanted: a restart of the program forgets. */
export class ProgramMemory implements SessionMemory {
  load(): Promise<RememberedSessions> {
    return Promise.resolve({})
  }

  save(): Promise<void> {
    return Promise.resolve()
  }
}

/** The sessions in use, written through to a memory. A memory that fails costs a warning, never the connection. */
export class SessionBook {
  readonly #memory: SessionMemory
  readonly #log: Log
  readonly #name: string
  #sessions: RememberedSessions = {}
  #saving: Promise<void> = Promise.resolve()

  constructor(memory: SessionMemory, name: string, log: Log) {
    this.#memory = memory
    this.#name = name
    this.#log = log
  }

  async load(): Promise<void> {
    try {
      this.#sessions = await this.#memory.load()
    } catch (error) {
      this.#warn(
        error,
        'what was known of the sessions at the brokers is lost: subscriptions of an earlier config may go on, and a lost session goes unseen once',
      )
    }
  }

  of(url: string): RememberedSession | undefined {
    return this.#sessions[url]
  }

  /** Resolves when it is on disk, or could not be. Nothing is written when nothing changed. */
  put(url: string, session: RememberedSession): Promise<void> {
    if (JSON.stringify(this.#sessions[url]) === JSON.stringify(session)) return this.#saving
    const sessions = { ...this.#sessions, [url]: session }
    this.#sessions = sessions
    this.#saving = this.#saving
      .then(() => this.#memory.save(sessions))
      .catch((error: unknown) => {
        this.#warn(error, 'the session at the broker could not be noted; after a restart its old subscriptions may go on')
      })
    return this.#saving
  }

  #warn(error: unknown, message: string): void {
    this.#log.warn({ source: this.#name, reason: messageOf(error) }, message)
  }
}
