/** Brings the subscriptions of a session in line with the settings, and finds out whether it was lost. */
import { matches } from './connect-filters.ts'
import type { Accepted, Link } from './connect-link.ts'
import type { RememberedSession, SessionBook } from './connect-memory.ts'
import type { CheckedSettings, ConnectFilter } from './connect-settings.ts'
import { subackWords } from './connect-words.ts'

export interface Subscribed {
  readonly refused: readonly ConnectFilter[]
  /** Each refused filter with the broker's reason. */
  readonly reasons: readonly string[]
  /** Filters granted at QoS 0 though 1 was asked for. */
  readonly lowered: readonly string[]
  /** Topics of answers to settings that the broker refuses. */
  readonly answersRefused: readonly string[]
}

/** Filters of the log path, and those of answers to settings. */
export interface Wanted {
  readonly clientId: string
  readonly filters: readonly ConnectFilter[]
  readonly answers: readonly string[]
}

/** What the broker holds of ours when a connection begins. */
export interface Found {
  readonly isLost: boolean
  /** There is a session, and we don't remember to have made it. */
  readonly isStrange: boolean
  /** Filters whose retained messages have come before. */
  readonly established: readonly string[]
  /** The session of this other client id stays behind at the broker. */
  readonly formerClientId: string | undefined
}

/** Compares the broker's word with what is remembered. Pure. */
export function findSession(accepted: Accepted, known: RememberedSession | undefined, clientId: string): Found {
  const isOurs = known?.clientId === clientId
  return {
    isLost: isOurs && !accepted.isSessionPresent,
    isStrange: !isOurs && accepted.isSessionPresent,
    established: isOurs && accepted.isSessionPresent ? known.established : [],
    formerClientId: known === undefined || isOurs ? undefined : known.clientId,
  }
}

/**
 * Subscribes to what is wanted (always: a broker that came back from an old state file may know the session and
 * not the filter), then unsubscribes from what an earlier config wanted. Rejects when the connection ends.
 */
export async function subscribe(link: Link, settings: Wanted, book: SessionBook, found: Found): Promise<Subscribed> {
  const { url } = link.broker
  const wanted = [...settings.filters.map(({ filter }) => filter), ...settings.answers]
  const known = found.formerClientId === undefined ? book.of(url) : undefined
  const unwanted = known === undefined ? [] : known.filters.filter((filter) => !wanted.includes(filter))
  const note = (filters: readonly string[]): Promise<void> =>
    book.put(url, {
      ...book.of(url),
      clientId: settings.clientId,
      filters,
      established: found.established.filter((filter) => wanted.includes(filter)),
    })
  await note([...unwanted, ...wanted])
  const subscribed = await subscribeTo(link, settings.filters)
  const codes = settings.answers.length === 0 ? [] : await link.subscribe(settings.answers.map(answerFilter), 1)
  if (unwanted.length > 0) await link.unsubscribe(unwanted)
  await note(wanted)
  return { ...subscribed, answersRefused: refusedOf(settings.answers, codes) }
}

/**
 * Brings the answer topics in line while the connection lasts, in the same order: noted, subscribed, unsubscribed,
 * forgotten. Gives the answer topics that the broker refuses.
 */
export async function changeAnswers(link: Link, settings: Wanted, book: SessionBook): Promise<readonly string[]> {
  const { url } = link.broker
  const known = book.of(url)
  if (known === undefined) return []
  const wanted = [...settings.filters.map(({ filter }) => filter), ...settings.answers]
  const fresh = settings.answers.filter((filter) => !known.filters.includes(filter))
  const unwanted = known.filters.filter((filter) => !wanted.includes(filter))
  if (fresh.length + unwanted.length === 0) return []
  await book.put(url, { ...known, filters: [...unwanted, ...wanted] })
  const codes = fresh.length === 0 ? [] : await link.subscribe(fresh.map(answerFilter), 1)
  if (unwanted.length > 0) await link.unsubscribe(unwanted)
  await book.put(url, { ...(book.of(url) ?? known), filters: wanted })
  return refusedOf(fresh, codes)
}

function refusedOf(filters: readonly string[], codes: readonly number[]): readonly string[] {
  return filters.filter((_, index) => (codes[index] ?? 0x80) >= 0x80)
}

function answerFilter(filter: string): ConnectFilter {
  return { filter, qos: 1 }
}

/** Rejects when the connection ends. */
export async function subscribeTo(link: Link, filters: readonly ConnectFilter[]): Promise<Subscribed> {
  // Retain handling 1: retained messages only for a subscription that is new (MQTT 5 section 3.8.3.1).
  const codes = await link.subscribe(filters, 1)
  const codeOf = (index: number): number => codes[index] ?? 0x80
  return {
    refused: filters.filter((_, index) => codeOf(index) >= 0x80),
    reasons: filters.flatMap(({ filter }, index) => (codeOf(index) >= 0x80 ? [`${filter} (${subackWords(codeOf(index))})`] : [])),
    answersRefused: [],
    lowered: filters.filter(({ qos }, index) => qos > 0 && codeOf(index) === 0).map(({ filter }) => filter),
  }
}

/**
 * MQTT 3.1.1 sends retained messages again at each SUBSCRIBE, with nothing that tells them from the first time:
 * on a subscription that was there before they are refused, or each reconnect would repeat them.
 */
export function takesRetained(settings: CheckedSettings, established: readonly string[], topic: string): boolean {
  if (settings.retained === 'ignore') return false
  if (settings.protocolVersion === 5) return true
  return !established.some((filter) => matches(filter, topic))
}
