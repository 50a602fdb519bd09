/** What the control socket and the metrics port answer. */
import { exposition } from '../../adapters/control/metrics.ts'
import { ledgerDocument } from '../cli/ledger-view.ts'
import { isHealthy, isReady } from '../health.ts'
import { metricsOf } from '../metrics.ts'
import { configRoutes } from './config-routes.ts'
import type { LiveConfiguration } from './configuration.ts'
import type { Overrides } from './overrides.ts'
import { deviceRoutes, type DeviceSources } from './device-routes.ts'
import { patchRoutes, type PatchSources } from './patch-routes.ts'
import { laneSpans, letterDocument } from './documents.ts'
import type { DeadLetters, Ledger, OutboxReader, Reply, Route, RouteRequest, StoredDeadLetter } from '../ports.ts'
import { statusDocument, type Snapshot } from '../status.ts'
import { whyKafka } from '../why-kafka.ts'

export interface RouteSources {
  snapshot(): Snapshot
  readonly outbox: Pick<OutboxReader, 'epochs' | 'state'>
  readonly ledger: Ledger
  readonly deadLetters: DeadLetters
  readonly configuration: Pick<LiveConfiguration, 'loaded' | 'pending' | 'leftOut'>
  readonly overrides: Pick<Overrides, 'list' | 'set' | 'clear'>
  readonly patches: PatchSources
  readonly devices: DeviceSources
}

const LINES_MAX = 1_000

export function controlRoutes(sources: RouteSources): readonly Route[] {
  const { ledger, deadLetters } = sources
  return [
    get('/status', () => statusDocument(sources.snapshot())),
    get('/why/kafka', () => whyKafka(statusDocument(sources.snapshot()))),
    get('/buffer', () => bufferDocument(sources)),
    get('/ledger', async ({ query }) => ledgerDocument(await ledger.totals(), await ledger.lines(limitOf(query.get('devices'), 20)))),
    ...configRoutes(sources.configuration, sources.overrides),
    ...patchRoutes(sources.patches),
    ...deviceRoutes(sources.devices),
    get('/dead-letters', async ({ query }) => ({
      schema: 1,
      deadLetters: (await deadLetters.list(limitOf(query.get('limit'), 50))).map((letter) => letterDocument(letter, false)),
    })),
    {
      method: 'GET',
      path: '/dead-letters/:id',
      run: (request) => withLetter(request, async (id) => found(await deadLetters.show(id), request)),
    },
    {
      method: 'POST',
      path: '/dead-letters/:id/retry',
      run: (request) => withLetter(request, async (id) => done(await deadLetters.retry(id), id)),
    },
    {
      method: 'POST',
      path: '/dead-letters/:id/drop',
      run: (request) => withLetter(request, async (id) => done(await deadLetters.drop(id), id)),
    },
  ]
}

export function metricsRoutes(snapshot: () => Snapshot): readonly Route[] {
  const probe = (holds: (verdict: Snapshot['verdict']) => boolean): Reply => {
    const { verdict } = snapshot()
    return { status: holds(verdict) ? 200 : 503, body: `${verdict.state}: ${verdict.line}\n` }
  }
  return [
    { method: 'GET', path: '/metrics', run: async () => ({ status: 200, body: await exposition(metricsOf(snapshot())) }) },
    { method: 'GET', path: '/healthz', run: () => probe(isHealthy) },
    { method: 'GET', path: '/readyz', run: () => probe(isReady) },
  ]
}

function get(path: string, answer: (request: RouteRequest) => object | Promise<object>): Route {
  return { method: 'GET', path, run: async (request) => ({ status: 200, body: await answer(request) }) }
}

async function bufferDocument(sources: RouteSources): Promise<object> {
  const { lanes, buffer } = statusDocument(sources.snapshot())
  const epochs = await sources.outbox.epochs()
  return {
    schema: 1,
    running: true,
    ...buffer,
    lanes,
    epochs: epochs.map((epoch) => ({
      epoch: epoch.epoch,
      createdAt: new Date(epoch.createdMs).toISOString(),
      lanes: laneSpans(epoch.lanes),
    })),
  }
}

async function withLetter({ params }: RouteRequest, act: (id: number) => Promise<Reply>): Promise<Reply> {
  const id = Number(params['id'])
  if (!Number.isSafeInteger(id) || id < 1)
    return { status: 400, body: { error: 'a dead letter is named by its number; `edgectl dead-letters list` shows them' } }
  return act(id)
}

function found(letter: StoredDeadLetter | undefined, { query, params }: RouteRequest): Reply {
  if (letter === undefined) return missing(params['id'])
  return { status: 200, body: letterDocument(letter, query.get('payload') === '1') }
}

function done(acted: boolean, id: number): Reply {
  return acted ? { status: 200, body: { schema: 1, id } } : missing(String(id))
}

function missing(id: string | undefined): Reply {
  return { status: 404, body: { error: `there is no dead letter ${id}; \`edgectl dead-letters list\` shows them` } }
}

function limitOf(text: string | null, otherwise: number): number {
  const limit = Number(text ?? otherwise)
  return Number.isSafeInteger(limit) && limit >= 0 ? Math.min(limit, LINES_MAX) : otherwise
}
