/** Export, import and backup over the control socket. The commands write and read the media: the daemon may not. */
import { GatewayError } from '../errors.ts'
import { answering } from './answering.ts'
import type { ExportSum } from '../move/file.ts'
import type { ExportDesk, ExportFacts, ExportFilter } from '../move/export-desk.ts'
import { LANES, type OutboxMoves, type Reply, type Route, type RouteRequest } from '../ports.ts'
import type { Backups } from './backups.ts'
import type { Imports } from './imports/imports.ts'

export interface MoveSources {
  readonly desk: ExportDesk
  readonly imports: Imports
  readonly backups: Backups
  readonly moves: Pick<OutboxMoves, 'gaps'>
}

const DOCUMENT_BYTES_MAX = 1 << 20
/** A piece of an import: some hundred lines, or one very long one. */
const LINES_BYTES_MAX = 8 << 20

export function moveRoutes({ desk, imports, backups, moves }: MoveSources): readonly Route[] {
  return [
    route('POST', '/exports', async ({ query }) => desk.begin(filterOf(query))),
    route('GET', '/exports', async () => ({ schema: 1, exports: await desk.notes() })),
    route('GET', '/exports/:id', async ({ params }) => ({ schema: 1, note: (await desk.note(idOf(params))) ?? null })),
    { method: 'GET', path: '/exports/:id/lines', run: ({ params }) => stream(desk.lines(idOf(params))) },
    route('POST', '/exports/:id/alive', ({ params }) => done(() => desk.alive(idOf(params)))),
    route(
      'POST',
      '/exports/:id/take',
      async ({ params, body }) => desk.take(idOf(params), JSON.parse(body) as ExportFacts),
      DOCUMENT_BYTES_MAX,
    ),
    route('POST', '/exports/:id/cancel', ({ params }) => done(() => desk.cancel(idOf(params)))),
    route('GET', '/imports', () => ({ schema: 1, imports: imports.figures() })),
    route(
      'POST',
      '/imports',
      async ({ body }) => {
        const { head, sum } = JSON.parse(body) as { head: unknown; sum: ExportSum }
        return { schema: 1, key: await imports.begin(head, sum) }
      },
      DOCUMENT_BYTES_MAX,
    ),
    route('POST', '/imports/:id/lines', ({ params, body }) => done(() => imports.add(idOf(params), body)), LINES_BYTES_MAX),
    route(
      'POST',
      '/imports/:id/commit',
      async ({ params, body }) => imports.commit(idOf(params), JSON.parse(body) as ExportSum),
      DOCUMENT_BYTES_MAX,
    ),
    route('POST', '/imports/:id/cancel', ({ params }) => done(() => imports.cancel(idOf(params)))),
    route('POST', '/imports/:id/retry', async ({ params }) => ({ schema: 1, messages: await imports.retry(idOf(params)) })),
    route('POST', '/imports/:id/drop', ({ params }) => ({ schema: 1, messages: imports.drop(idOf(params)) })),
    route('POST', '/backups', () => ({ schema: 1, ...backups.begin() })),
    route('GET', '/backups/:id', ({ params }) => ({ schema: 1, ...backups.state(idOf(params)) })),
    route('POST', '/backups/:id/end', ({ params }) => done(() => backups.end(idOf(params)))),
    route('GET', '/gaps', async () => ({ schema: 1, gaps: await moves.gaps() })),
  ]
}

/** What is refused says what to do. A fault of the program is left to the server. */
function route(
  method: Route['method'],
  path: string,
  answer: (request: RouteRequest) => object | Promise<object>,
  bodyBytesMax?: number,
): Route {
  return answering({ method, path, answer, bodyBytesMax })
}

function stream(lines: AsyncIterable<string>): Reply {
  return { status: 200, contentType: 'application/x-ndjson', stream: lines }
}

async function done(act: () => void | Promise<void>): Promise<object> {
  await act()
  return { schema: 1 }
}

function idOf(params: RouteRequest['params']): string {
  return params['id'] ?? ''
}

function filterOf(query: URLSearchParams): ExportFilter {
  const lanes = query.getAll('lane').map((name) => {
    const lane = LANES.find((one) => one === name)
    if (lane !== undefined) return lane
    throw new GatewayError('rejected', `there is no lane ${name}`, { remedy: `the lanes are ${LANES.join(', ')}` })
  })
  return { lanes, epochs: query.getAll('epoch') }
}
