/** The configuration over the control socket: looked at, and overridden for a time. */
import { parseKey, parseSpan, parseValue } from '../../config/dotted.ts'
import { formatOrigin, formatPath } from '../../config/problem.ts'
import { GatewayError, messageOf } from '../errors.ts'
import type { Reply, Route, RouteRequest } from '../ports.ts'
import type { LiveConfiguration } from './configuration.ts'
import { OVERRIDE_MAX_MS, type OverrideRequest, type Overrides } from './overrides.ts'

export function configRoutes(
  configuration: Pick<LiveConfiguration, 'loaded' | 'pending' | 'leftOut'>,
  overrides: Pick<Overrides, 'list' | 'set' | 'clear'>,
): readonly Route[] {
  return [
    { method: 'GET', path: '/config', run: () => ({ status: 200, body: shown(configuration, overrides) }) },
    { method: 'GET', path: '/config/overrides', run: () => ({ status: 200, body: { schema: 1, overrides: overrides.list() } }) },
    { method: 'POST', path: '/config/override', run: (request) => answered(() => set(overrides, request)) },
    { method: 'POST', path: '/config/override/clear', run: (request) => answered(() => clear(overrides, request)) },
  ]
}

function shown(
  { loaded, pending, leftOut }: Pick<LiveConfiguration, 'loaded' | 'pending' | 'leftOut'>,
  overrides: Pick<Overrides, 'list'>,
) {
  return {
    schema: 1,
    afterRestart: pending,
    leftOut: leftOut.map(({ label, reason }) => ({ label, reason })),
    overrides: overrides.list(),
    values: loaded.effective.map(({ path, value, origin }) => ({ path: formatPath(path), value, origin: formatOrigin(origin) })),
  }
}

async function set(overrides: Pick<Overrides, 'list' | 'set'>, request: RouteRequest): Promise<Reply> {
  const wanted = wantedOf(request.query)
  if (typeof wanted === 'string') return { status: 400, body: { error: wanted } }
  await overrides.set(wanted)
  const key = formatPath(wanted.path)
  return { status: 200, body: { schema: 1, override: overrides.list().find((one) => one.key === key) } }
}

async function clear(overrides: Pick<Overrides, 'clear'>, { query }: RouteRequest): Promise<Reply> {
  const path = parseKey(query.get('key') ?? '')
  const key = path === undefined ? '' : formatPath(path)
  if (await overrides.clear(key, query.get('by') ?? 'unknown')) return { status: 200, body: { schema: 1, key } }
  return { status: 404, body: { error: `there is no override of ${key}; \`edgectl config override --list\` shows them` } }
}

/** What is asked for, or what is wrong with it. */
function wantedOf(query: URLSearchParams): OverrideRequest | string {
  const path = parseKey(query.get('key') ?? '')
  if (path === undefined) return 'write the key with dots, such as limits.perDevice.messagesPerSecond'
  const forMs = parseSpan(query.get('for') ?? '', OVERRIDE_MAX_MS)
  if (typeof forMs === 'string') return `--for: ${forMs}`
  try {
    const value = parseValue(query.get('value') ?? '')
    return { path, value, forMs, by: query.get('by') ?? 'unknown', reason: query.get('reason') ?? '' }
  } catch (error) {
    return `the value can't be read as YAML: ${messageOf(error)}`
  }
}

async function answered(act: () => Promise<Reply>): Promise<Reply> {
  try {
    return await act()
  } catch (error) {
    if (!(error instanceof GatewayError) || error.kind === 'fatal') throw error
    return { status: 409, body: { error: error.message } }
  }
}
