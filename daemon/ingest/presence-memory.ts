/**
 * What is remembered of presence over a restart, in pieces of a bounded size: id, age, and whether its silence was told.
 *
 * Written seldom: at most every few minutes, and for a large fleet so that a day's writing stays below what flash bears.
 */
import type { Clock } from '../clock.ts'
import type { Presence, Remembered } from './presence.ts'
import { State } from './presence-table.ts'

/** One piece. `devices`: id, source, seconds since it was heard (null: not known), 1 if its silence was told; in a row. */
export interface PresencePiece {
  readonly schema: 1
  readonly bootId: string
  /** When it was written: ms since that boot, and wall ms, if that clock was believed. */
  readonly bootMs: number
  readonly wallMs: number | null
  readonly devices: readonly (string | number | null)[]
}

export const PRESENCE = 'presence/'
const COLUMNS = 4
/** Of a piece's text, about. */
const PIECE_BYTES = 128 * 1_024
/** 100 MB a day. */
const BYTES_PER_SECOND = 1_200
const EVERY_MS = 5 * 60_000

/**
 * When the next writing is due, monotonic ms: after the last one, which had so many bytes. News are told once a minute at
 * most, and written down at once where that is cheap, so that they are not told again after a kill.
 */
export function nextWriteMs(lastMs: number, lastBytes: number, hasNews: boolean): number {
  return lastMs + Math.max(hasNews ? 0 : EVERY_MS, (lastBytes * 1_000) / BYTES_PER_SECOND)
}

/** Made one by one, so that nothing waits for all of them. */
export function* piecesOf(presence: Presence, clock: Clock): Generator<PresencePiece> {
  const { table } = presence
  let devices: (string | number | null)[] = []
  let bytes = 0
  const piece = (): PresencePiece => ({
    schema: 1,
    bootId: clock.bootId,
    bootMs: clock.bootMs(),
    wallMs: clock.wallTrusted() ? clock.wallMs() : null,
    devices,
  })
  for (let slot = 0; slot < table.size; slot++) {
    const id = table.ids[slot] ?? ''
    const isThere = (table.connections[slot] ?? 0) > 0
    const ageMs = isThere ? 0 : clock.monotonicMs() - (table.heardMs[slot] ?? 0)
    const age = Number.isFinite(ageMs) ? Math.round(ageMs / 1_000) : null
    devices.push(id, presence.sourceOf(slot), age, table.state[slot] === State.SILENT ? 1 : 0)
    bytes += JSON.stringify(id).length + 24
    if (bytes < PIECE_BYTES) continue
    yield piece()
    devices = []
    bytes = 0
  }
  if (devices.length > 0) yield piece()
}

/** Reads what an earlier start wrote; what is no piece, or not whole, is left out. */
export function* remembered(pieces: Iterable<unknown>, clock: Clock): Generator<Remembered> {
  for (const piece of pieces) {
    if (!isPiece(piece)) continue
    const awayMs = sinceWritten(piece, clock)
    for (let at = 0; at + COLUMNS <= piece.devices.length; at += COLUMNS) {
      const [device, source, age, told] = piece.devices.slice(at, at + COLUMNS)
      if (typeof device !== 'string' || device === '' || typeof source !== 'string') continue
      const heardMs = typeof age === 'number' ? clock.monotonicMs() - awayMs - age * 1_000 : -Infinity
      yield { device, source, heardMs, told: told === 1 }
    }
  }
}

/** ms; `Infinity` when no clock can tell. */
function sinceWritten({ bootId, bootMs, wallMs }: PresencePiece, clock: Clock): number {
  if (bootId === clock.bootId) return Math.max(0, clock.bootMs() - bootMs)
  if (wallMs === null || !clock.wallTrusted()) return Infinity
  return Math.max(0, clock.wallMs() - wallMs)
}

function isPiece(value: unknown): value is PresencePiece {
  const piece = value as PresencePiece | null
  return typeof piece === 'object' && piece?.schema === 1 && typeof piece.bootMs === 'number' && Array.isArray(piece.devices)
}
