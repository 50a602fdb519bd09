/** Where an export comes from: the running daemon, or the files of one that is down, under its lock. */
import { chownSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { ControlClient, DaemonUnreachable } from '../../../adapters/control/client.ts'
import { SystemClock, systemRandom } from '../../../adapters/host/clock.ts'
import { SystemLog } from '../../../adapters/host/log.ts'
import type { Settings } from '../../../config/settings.ts'
import { Outbox } from '../../../store/outbox.ts'
import { drawId, originOf } from '../../compose/moving.ts'
import { outboxSettings } from '../../compose/settings.ts'
import { submitEvent } from '../../event.ts'
import { ExportDesk, type ExportFacts, type ExportFilter, type ExportNote } from '../../move/export-desk.ts'
import type { ExportHead } from '../../move/file.ts'
import { VERSION } from '../../version.ts'

const STOP_MS = 60_000

export interface ExportSource {
  begin(filter: ExportFilter): Promise<ExportHead>
  /** Whole lines. */
  lines(id: string): AsyncIterable<string>
  alive(id: string): Promise<void>
  take(id: string, facts: ExportFacts): Promise<void>
  /** Undefined unless it was taken. */
  note(id: string): Promise<ExportNote | undefined>
  cancel(id: string): Promise<void>
  close(): Promise<void>
}

/** Rejects when the daemon runs and does not answer. */
export async function exportSource(settings: Settings): Promise<ExportSource> {
  const client = new ControlClient(settings.control.socket)
  try {
    await client.get('/exports')
    return new LiveSource(client)
  } catch (error) {
    await client.close()
    if (!(error instanceof DaemonUnreachable) || error.why === 'silent') throw error
    return StoppedSource.open(settings)
  }
}

class LiveSource implements ExportSource {
  readonly #client: ControlClient

  constructor(client: ControlClient) {
    this.#client = client
  }

  async begin({ lanes, epochs }: ExportFilter): Promise<ExportHead> {
    const query = new URLSearchParams()
    for (const lane of lanes) query.append('lane', lane)
    for (const epoch of epochs) query.append('epoch', epoch)
    return (await this.#client.post(`/exports?${query.toString()}`)) as ExportHead
  }

  async *lines(id: string): AsyncIterable<string> {
    let lines: string[] = []
    let bytes = 0
    for await (const line of this.#client.stream(`/exports/${id}/lines`)) {
      lines.push(line, '\n')
      bytes += line.length
      if (bytes < PIECE_CHARACTERS) continue
      yield lines.join('')
      lines = []
      bytes = 0
    }
    if (lines.length > 0) yield lines.join('')
  }

  async alive(id: string): Promise<void> {
    await this.#client.post(`/exports/${id}/alive`)
  }

  async take(id: string, facts: ExportFacts): Promise<void> {
    await this.#client.post(`/exports/${id}/take`, JSON.stringify(facts))
  }

  async note(id: string): Promise<ExportNote | undefined> {
    const { note } = (await this.#client.get(`/exports/${id}`)) as { note: ExportNote | null }
    return note ?? undefined
  }

  async cancel(id: string): Promise<void> {
    await this.#client.post(`/exports/${id}/cancel`)
  }

  close(): Promise<void> {
    return this.#client.close()
  }
}

const PIECE_CHARACTERS = 512 * 1024

/** The store itself, as the daemon would open it. */
class StoppedSource implements ExportSource {
  readonly #outbox: Outbox
  readonly #desk: ExportDesk
  readonly #clock: SystemClock
  readonly #dataDir: string

  private constructor(outbox: Outbox, desk: ExportDesk, clock: SystemClock, dataDir: string) {
    this.#outbox = outbox
    this.#desk = desk
    this.#clock = clock
    this.#dataDir = dataDir
  }

  static async open(settings: Settings): Promise<StoppedSource> {
    const clock = new SystemClock()
    const log = new SystemLog('error', clock)
    const { dataDir } = settings.gateway
    const outbox = new Outbox({ dataDir, settings: outboxSettings(settings), clock, random: systemRandom, log, whenDamaged: 'refuse' })
    await outbox.start(new AbortController().signal)
    const { moves, memory } = outbox
    const desk = new ExportDesk({
      ...{ moves, memory, clock, log, version: VERSION, draw: drawId },
      origin: () => originOf(settings),
      hold: () => undefined,
      report(type, document) {
        const { gateway, kafka } = settings
        if (kafka !== undefined) submitEvent({ outbox, gateway: gateway.id, wallMs: clock.wallMs() }, type, document)
      },
    })
    await desk.start(new AbortController().signal)
    return new StoppedSource(outbox, desk, clock, dataDir)
  }

  begin(filter: ExportFilter): Promise<ExportHead> {
    return this.#desk.begin(filter)
  }

  lines(id: string): AsyncIterable<string> {
    return this.#desk.lines(id)
  }

  async alive(id: string): Promise<void> {
    this.#desk.alive(id)
  }

  async take(id: string, facts: ExportFacts): Promise<void> {
    await this.#desk.take(id, facts)
  }

  note(id: string): Promise<ExportNote | undefined> {
    return this.#desk.note(id)
  }

  async cancel(id: string): Promise<void> {
    this.#desk.cancel(id)
  }

  async close(): Promise<void> {
    await this.#desk.stop()
    await this.#outbox.stop(this.#clock.monotonicMs() + STOP_MS)
    giveBack(this.#dataDir)
  }
}

/** What root made in the data directory belongs to the daemon's user, or the next start could not write it. */
export function giveBack(dataDir: string): void {
  if (process.getuid?.() !== 0) return
  const { uid, gid } = statSync(dataDir)
  if (uid === 0) return
  for (const name of readdirSync(dataDir)) {
    const path = join(dataDir, name)
    const owner = statSync(path, { throwIfNoEntry: false })
    if (owner?.isFile() === true && owner.uid === 0) chownSync(path, uid, gid)
  }
}
