/**
 * Copies of the databases for `edgectl backup`, made in the data directory: the daemon may write nowhere else. The
 * command takes them to their place, and then they go.
 */
import { mkdirSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../clock.ts'
import type { Component } from '../component.ts'
import { GatewayError, messageOf } from '../errors.ts'
import type { OutboxMoves } from '../ports.ts'

export interface BackupState {
  readonly id: string
  readonly state: 'copying' | 'ready' | 'failed'
  /** Where the copies are. */
  readonly directory: string
  readonly error?: string
  readonly remedy?: string
}

const FOLDER = 'backup-'
/** A command that never says it is done has gone. */
const KEPT_MS = 3_600_000

export class Backups implements Component {
  readonly name = 'backups'
  readonly #moves: Pick<OutboxMoves, 'copyTo'>
  readonly #clock: Clock
  readonly #draw: () => string
  readonly #dataDir: () => string
  #current: BackupState | undefined
  #cancel: () => void = () => undefined

  constructor(parts: { moves: Pick<OutboxMoves, 'copyTo'>; clock: Clock; draw: () => string; dataDir: () => string }) {
    this.#moves = parts.moves
    this.#clock = parts.clock
    this.#draw = parts.draw
    this.#dataDir = parts.dataDir
  }

  /** Removes what a life before left. */
  async start(_signal: AbortSignal): Promise<void> {
    for (const name of readdirSync(this.#dataDir())) {
      if (name.startsWith(FOLDER)) rmSync(join(this.#dataDir(), name), { recursive: true, force: true })
    }
  }

  async stop(): Promise<void> {
    this.#drop()
  }

  begin(): BackupState {
    if (this.#current?.state === 'copying')
      throw new GatewayError('rejected', 'another backup is under way', { remedy: 'wait until it has ended' })
    this.#drop()
    const id = this.#draw()
    const directory = join(this.#dataDir(), FOLDER + id)
    mkdirSync(directory, { mode: 0o750 })
    this.#current = { id, state: 'copying', directory }
    this.#cancel = this.#clock.after(KEPT_MS, () => this.#drop())
    void this.#moves.copyTo(directory).then(
      () => this.#become({ id, state: 'ready', directory }),
      (error: unknown) => {
        const remedy = error instanceof GatewayError && error.remedy !== undefined ? { remedy: error.remedy } : {}
        rmSync(directory, { recursive: true, force: true })
        this.#become({ id, state: 'failed', directory, error: messageOf(error), ...remedy })
      },
    )
    return this.#current
  }

  state(id: string): BackupState {
    if (this.#current?.id === id) return this.#current
    throw new GatewayError('rejected', `there is no backup ${id} under way`, { remedy: 'run `edgectl backup` again' })
  }

  end(id: string): void {
    this.state(id)
    this.#drop()
  }

  #become(state: BackupState): void {
    if (this.#current?.id === state.id) this.#current = state
    else rmSync(state.directory, { recursive: true, force: true })
  }

  #drop(): void {
    this.#cancel()
    const current = this.#current
    this.#current = undefined
    // A copy that is still being written is removed when it ends.
    if (current !== undefined && current.state !== 'copying') rmSync(current.directory, { recursive: true, force: true })
  }
}
