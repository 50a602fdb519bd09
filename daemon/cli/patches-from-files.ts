/** Answers on patches from the memory of a daemon that is down. Locks stand in etcd: only the daemon can tell of them. */
import { SystemClock } from '../../adapters/host/clock.ts'
import { parsePatchPayload } from '../../config/patch/parse.ts'
import type { Settings } from '../../config/settings.ts'
import { readMemory } from '../../store/memory.ts'
import { deniedIn, historyDocument, holdDocument, patchesDocument, type Remembered } from '../compose/patch-documents.ts'
import { whyDocument } from '../compose/patch-why.ts'
import { GatewayError } from '../errors.ts'
import type { Patch } from '../patch/document.ts'
import { HOLD, holdIn } from '../patch/agent/hold.ts'
import { readOwn } from '../patch/agent/own.ts'
import type { Json } from '../patch/memory.ts'
import { unfinishedIn } from '../patch/runner/journal.ts'

/** Undefined: it is no question on patches. */
export function patchesFromFiles(settings: Settings, { pathname, searchParams }: URL): Promise<object> | undefined {
  const { dataDir } = settings.gateway
  const clock = new SystemClock()
  if (pathname === '/history') return Promise.resolve(historyDocument(below(dataDir, 'history/'), Number(searchParams.get('limit') ?? 20)))
  if (pathname === '/hold') return Promise.resolve(holdDocument(holdIn(below(dataDir, HOLD), clock), clock.wallMs()))
  if (pathname === '/patches') return remembered(dataDir, clock).then((known) => patchesDocument(known))
  const id = /^\/patches\/([^/]+)\/why$/.exec(pathname)?.[1]
  return id === undefined ? undefined : why(dataDir, decodeURIComponent(id), clock)
}

async function why(dataDir: string, patch: string, clock: SystemClock): Promise<object> {
  const known = await remembered(dataDir, clock)
  const row = patchesDocument(known).patches.find((one) => one.patch === patch)
  if (row === undefined) {
    const remedy = 'start it, then ask again; what waits stands in etcd'
    throw new GatewayError('rejected', `the daemon is down, and remembers no patch ${patch}`, { remedy })
  }
  return whyDocument({ row, running: false, nowMs: clock.wallMs(), caveats: ['the daemon is down, and nothing goes on until it runs'] })
}

async function remembered(dataDir: string, clock: SystemClock): Promise<Remembered> {
  const memory = { read: (prefix: string) => Promise.resolve(below(dataDir, prefix)) }
  const own = await readOwn(memory, { stored }, clock)
  return { own, denied: deniedIn(below(dataDir, 'denied/')), running: unfinishedIn(below(dataDir, 'journal/')) }
}

function below(dataDir: string, prefix: string): ReadonlyMap<string, Json> {
  const { entries, reason } = readMemory(dataDir, prefix)
  if (reason !== undefined) throw new GatewayError('rejected', reason)
  return entries
}

/** It was verified when it was applied; another version may have written it. */
function stored(payload: Uint8Array): Patch | undefined {
  try {
    return parsePatchPayload(payload)
  } catch {
    return undefined
  }
}
