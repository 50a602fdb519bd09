/** What the page answers: itself, its feed, looks at what the control socket answers too, and a few acts. */
import type { PageFiles } from '../../adapters/control/page-files.ts'
import type { Feed } from '../page/feed.ts'
import { paint } from '../page/paint.ts'
import type { Log, Reply, Route, RouteRequest } from '../ports.ts'
import type { StatusDocument } from '../status.ts'
import type { PageGate, Visitor } from './page-gate.ts'

export interface PageRouteParts {
  readonly gate: PageGate
  readonly feed: Feed
  readonly files: PageFiles
  readonly status: () => StatusDocument
  /** Those of the control socket. */
  readonly control: readonly Route[]
  /** Undefined while it runs for somebody. */
  readonly doctor: () => AsyncIterable<string> | undefined
  readonly log: Log
  /** Tells the events topic. */
  readonly report: (type: 'page-act', document: object) => void
  readonly nowMs: () => number
}

/** Of the control socket's answers. All else of it, such as overrides, stays with those who are on the box. */
const LOOKS = [
  '/ledger',
  '/devices',
  '/devices/:id',
  '/patches',
  '/patches/:id/why',
  '/history',
  '/hold',
  '/dead-letters',
  '/dead-letters/:id',
]
const STALL_MS = 15_000
const HTML = 'text/html; charset=utf-8'

export function pageRoutes(parts: PageRouteParts): readonly Route[] {
  const { gate, files, feed } = parts
  const loginPage = (status: number, trouble: string): Reply => {
    const { gateway } = parts.status()
    return { status, contentType: HTML, body: paint(files.templates.login, { gateway, trouble }) }
  }
  return [
    gate.known({ method: 'GET', path: '/', run: (request) => root(parts, gate.visitor(request)) }),
    gate.known({ method: 'GET', path: '/login', run: (request) => (gate.visitor(request) ? moved('/') : loginPage(200, '')) }),
    gate.login(loginPage),
    gate.logout(),
    ...files.routes.map((route) => gate.known(route)),
    gate.seen({ method: 'GET', path: '/api/events' }, (request, { proof }) => ({
      status: 200,
      contentType: 'text/event-stream; charset=utf-8',
      stream: feed.events(() => gate.visitor(request) !== undefined, proof, request.signal),
      stallMs: STALL_MS,
    })),
    ...LOOKS.flatMap((path) => looks(parts, path)),
    ...acts(parts),
  ]
}

function root({ files, status }: PageRouteParts, visitor: Visitor | undefined): Reply {
  if (visitor === undefined) return moved('/login')
  const { gateway, verdict, at } = status()
  const { state, line, remedy = '' } = verdict
  const { user, proof } = visitor
  const values = { gateway, state, line, remedy, at, user, proof, session: visitor.loggedIn ? 'login' : 'none' }
  return { status: 200, contentType: HTML, body: paint(files.templates.index, values) }
}

function moved(location: string): Reply {
  return { status: 303, headers: { location }, body: '' }
}

function looks({ control, gate }: PageRouteParts, path: string): Route[] {
  const route = control.find((one) => one.method === 'GET' && one.path === path)
  return route === undefined ? [] : [gate.seen({ method: 'GET', path: `/api${path}` }, (request) => route.run(request))]
}

function acts(parts: PageRouteParts): Route[] {
  const { gate, doctor } = parts
  return [
    ...act(parts, '/dead-letters/:id/retry', ({ params }) => `retried dead letter ${params['id']}`),
    ...act(parts, '/hold', ({ query }) => `held patches for ${query.get('for')}: ${query.get('reason')}`),
    ...act(parts, '/hold/clear', () => 'ended the hold on patches'),
    gate.done('/api/doctor', () => {
      const checks = doctor()
      if (checks === undefined) return { status: 409, body: { error: 'it runs already, for somebody else; wait until it has ended' } }
      return { status: 200, contentType: 'application/x-ndjson', stream: checks, stallMs: STALL_MS }
    }),
  ]
}

/** Done as the control socket does it, in the visitor's name, and written down. */
function act(parts: PageRouteParts, path: string, words: (request: RouteRequest) => string): Route[] {
  const { control, gate, log, report, nowMs } = parts
  const route = control.find((one) => one.method === 'POST' && one.path === path)
  if (route === undefined) return []
  const run = async (request: RouteRequest, { user }: Visitor): Promise<Reply> => {
    const query = new URLSearchParams(request.query)
    query.set('by', `${user} (page)`)
    const reply = await route.run({ ...request, query })
    if (reply.status >= 400) return reply
    const said = words(request).slice(0, 300)
    log.info({ by: user, address: request.address }, `page: ${user} ${said}`)
    report('page-act', { schema: 1, type: 'page-act', at: new Date(nowMs()).toISOString(), by: user, address: request.address, said })
    return reply
  }
  return [gate.done(`/api${path}`, run)]
}
