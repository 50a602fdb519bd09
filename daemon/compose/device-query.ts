/** Questions to the table of devices: which of them, in which order, a page at a time. */
import type { Presence } from '../ingest/presence.ts'
import { NONE, STATES, type PresenceState } from '../ingest/presence-table.ts'
import { GatewayError } from '../errors.ts'

export const SORTS = ['id', 'rate', 'seen', 'shed', 'state'] as const
export type DeviceSort = (typeof SORTS)[number]

export interface DeviceQuestion {
  readonly search: string
  readonly state: PresenceState | undefined
  readonly sort: DeviceSort
  readonly limit: number
  /** Id of the last one of the page before. */
  readonly after: string | undefined
}

export interface FoundDevices {
  readonly matched: number
  readonly slots: readonly number[]
  readonly next: string | undefined
}

/** One pass over all, keeping only the page: the loop is held for some ms with 50,000 devices. */
export function findDevices(presence: Presence, question: DeviceQuestion, nowMs: number): FoundDevices {
  const { table } = presence
  const { state, limit } = question
  const search = question.search.toLowerCase()
  const before = orderOf(presence, question.sort, nowMs)
  const from = question.after === undefined ? NONE : table.find(question.after)
  if (question.after !== undefined && from === NONE)
    throw new GatewayError('rejected', 'the device that the last page ended with is not known any more', {
      remedy: 'begin with the first page',
    })
  const page: number[] = []
  let [matched, later] = [0, 0]
  for (let slot = 0; slot < table.size; slot++) {
    if (state !== undefined && STATES[table.state[slot] ?? 0] !== state) continue
    if (search !== '' && !(table.ids[slot] ?? '').toLowerCase().includes(search)) continue
    matched++
    if (from !== NONE && !before(from, slot)) continue
    later++
    keep(page, slot, limit, before)
  }
  const last = page.at(-1)
  return { matched, slots: page, next: later > page.length && last !== undefined ? table.ids[last] : undefined }
}

/** Ids that look like this one: they differ in case, have it in them, or lie in it. */
export function similarIds(presence: Presence, id: string, limit: number): readonly string[] {
  const wanted = plain(id)
  const found: string[] = []
  if (wanted === '') return found
  for (const known of presence.table.ids) {
    const other = plain(known)
    if (other === '' || !(other === wanted || other.includes(wanted) || wanted.includes(other) || isNear(other, wanted))) continue
    if (found.push(known) === limit) break
  }
  return found
}

/** Without what people leave out and mix up when they read a label aloud. */
function plain(id: string): string {
  return id.toLowerCase().replaceAll(/[-_.: ]/g, '')
}

/** One character was changed, left out or put in. */
function isNear(a: string, b: string): boolean {
  if (Math.abs(a.length - b.length) > 1) return false
  let head = 0
  while (head < a.length && head < b.length && a[head] === b[head]) head++
  let tail = 0
  while (tail < Math.min(a.length, b.length) - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++
  return Math.max(a.length, b.length) - head - tail <= 1
}

type Order = (a: number, b: number) => boolean

function orderOf(presence: Presence, sort: DeviceSort, nowMs: number): Order {
  const { table } = presence
  const byId: Order = (a, b) => (table.ids[a] ?? '') < (table.ids[b] ?? '')
  if (sort === 'id') return byId
  const key = keyOf(presence, sort, nowMs)
  return (a, b) => {
    const difference = key(b) - key(a)
    return difference === 0 || Number.isNaN(difference) ? byId(a, b) : difference < 0
  }
}

/** The highest first. */
function keyOf(presence: Presence, sort: Exclude<DeviceSort, 'id'>, nowMs: number): (slot: number) => number {
  const { table } = presence
  switch (sort) {
    case 'rate':
      return (slot) => presence.ratesOf(slot, nowMs).perSecond
    case 'seen':
      return (slot) => ((table.connections[slot] ?? 0) > 0 ? nowMs : (table.heardMs[slot] ?? 0))
    case 'shed':
      return (slot) => table.shed[slot] ?? 0
    case 'state':
      return (slot) => ORDER_OF_STATES[table.state[slot] ?? 0] ?? 0
  }
}

/** By state: what needs a look comes first. */
const ORDER_OF_STATES = [0, 2, 3, 1]

/** Into a sorted page of at most `limit`. */
function keep(page: number[], slot: number, limit: number, before: Order): void {
  const last = page.at(-1)
  if (page.length === limit && last !== undefined && !before(slot, last)) return
  let [low, high] = [0, page.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (before(slot, page[middle] ?? 0)) high = middle
    else low = middle + 1
  }
  page.splice(low, 0, slot)
  if (page.length > limit) page.pop()
}
