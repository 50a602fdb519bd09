/** Devices over the control socket: all of them, one, why one is as it is, and messages as they come. */
import type { Settings } from '../../config/settings.ts'
import { GatewayError } from '../errors.ts'
import { answering } from './answering.ts'
import type { Clock } from '../clock.ts'
import type { DeviceIntake } from '../ingest/intake.ts'
import type { DeviceWatch } from '../ingest/device-watch.ts'
import { NONE, STATES, type PresenceState } from '../ingest/presence-table.ts'
import { TAILS_MAX } from '../ingest/tails.ts'
import type { DeadLetters, Reply, Route, RouteRequest, SourceState } from '../ports.ts'
import { deviceDocument, devicesDocument, refusalDocument } from './device-documents.ts'
import { findDevices, similarIds, SORTS, type DeviceQuestion } from './device-query.ts'
import type { Parts } from './parts.ts'
import { whyDevice, whyStranger } from './device-why.ts'

export interface DeviceSources {
  readonly watch: DeviceWatch
  readonly intake: Pick<DeviceIntake, 'limitOf'>
  readonly sources: () => readonly SourceState[]
  readonly deadLetters: Pick<DeadLetters, 'list'>
  /** Patterns of `mqtt.topics`. */
  readonly patterns: () => readonly string[]
  readonly clock: Clock
}

export function deviceSources(parts: Parts, inForce: () => Settings): DeviceSources {
  const { devices, intake, sources, outbox, clock } = parts
  const patterns = (): string[] => Object.values(inForce().mqtt.topics).map(({ pattern }) => pattern)
  return { watch: devices, intake, sources: () => sources.state(), deadLetters: outbox.deadLetters, patterns, clock }
}

const ROWS_MAX = 500
const TEXT_MAX = 256
const LETTERS_MAX = 200
const SHOWN_MAX = 10

export function deviceRoutes(sources: DeviceSources): readonly Route[] {
  return [
    route('/devices', ({ query }) => all(sources, query)),
    route('/devices/:id', (request) => one(sources, idOf(request))),
    route('/why/device/:id', (request) => why(sources, idOf(request))),
    { method: 'GET', path: '/tail', run: (request) => tail(sources, request) },
  ]
}

function route(path: string, answer: (request: RouteRequest) => object | Promise<object>): Route {
  return answering({ method: 'GET', path, answer, refused: 404 })
}

function idOf({ params }: RouteRequest): string {
  try {
    return decodeURIComponent(params['id'] ?? '')
  } catch {
    throw new GatewayError('rejected', 'the device id in the address is not well encoded')
  }
}

function all({ watch, sources, clock }: DeviceSources, query: URLSearchParams): object {
  const question = questionOf(query)
  return devicesDocument(watch.presence, findDevices(watch.presence, question, clock.monotonicMs()), sources(), clock)
}

export function questionOf(query: URLSearchParams): DeviceQuestion {
  const search = query.get('search') ?? ''
  if (search.length > TEXT_MAX) throw new GatewayError('rejected', `search for at most ${TEXT_MAX} characters`)
  const limit = Number(query.get('limit') ?? 50)
  return {
    search,
    state: choice<PresenceState>('state', query.get('state'), STATES),
    sort: choice('sort', query.get('sort'), SORTS) ?? 'id',
    limit: Number.isSafeInteger(limit) && limit >= 1 ? Math.min(limit, ROWS_MAX) : 50,
    after: query.get('after') ?? undefined,
  }
}

function choice<Word extends string>(name: string, given: string | null, words: readonly Word[]): Word | undefined {
  if (given === null || given === '') return undefined
  const word = words.find((one) => one === given)
  if (word === undefined) throw new GatewayError('rejected', `${name}: there is only ${words.join(', ')}`)
  return word
}

async function one(sources: DeviceSources, id: string): Promise<object> {
  const slot = sources.watch.presence.table.find(id)
  if (slot === NONE) throw new GatewayError('rejected', 'no device of this id was seen', { remedy: 'edgectl why device ID says more' })
  return documentOf(sources, id, slot)
}

async function documentOf({ watch, intake, deadLetters, clock }: DeviceSources, id: string, slot: number) {
  const letters = await deadLetters.list(LETTERS_MAX)
  const facts = {
    limit: intake.limitOf(id),
    deadLetters: letters.filter(({ envelope }) => envelope.device === id).length,
    refused: watch.refused.about(id).slice(0, SHOWN_MAX),
  }
  return deviceDocument(watch.presence, slot, facts, clock)
}

async function why(sources: DeviceSources, id: string): Promise<object> {
  const { watch, clock, patterns } = sources
  const slot = watch.presence.table.find(id)
  const all = sources.sources()
  const deaf = all
    .filter(({ state }) => state !== 'up')
    .map(({ kind, name, state, reason }) => `mqtt.${kind}.${name} is ${state}: ${reason ?? 'no reason known'}`)
  if (slot !== NONE) return whyDevice(await documentOf(sources, id, slot), deafFor(watch.presence.sourceOf(slot), all, deaf))
  return whyStranger({
    device: id,
    similar: similarIds(watch.presence, id, SHOWN_MAX),
    refusals: watch.refused
      .about(id)
      .slice(0, SHOWN_MAX)
      .map((refused) => refusalDocument(refused, clock)),
    others: watch.refused.latest(1).map((refused) => refusalDocument(refused, clock)),
    patterns: patterns(),
    deaf,
  })
}

function deafFor(source: string, all: readonly SourceState[], deaf: readonly string[]): readonly string[] {
  return all.some(({ name, state }) => name === source && state === 'up') ? [] : deaf
}

function tail({ watch }: DeviceSources, { query, signal }: RouteRequest): Reply {
  const devices = query.get('device') ?? ''
  if (devices === '' || devices.length > TEXT_MAX)
    return { status: 400, body: { error: 'name a device, or a pattern of ids such as cam-*' } }
  if (watch.tails.full) return { status: 503, body: { error: `${TAILS_MAX} tails are open already`, remedy: 'end one of them' } }
  const wish = { devices, stream: query.get('stream') ?? undefined, payload: query.get('payload') === '1' }
  return { status: 200, contentType: 'application/x-ndjson', stream: watch.tails.lines(wish, signal) }
}
