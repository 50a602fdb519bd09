/** Answers from the files of a daemon that is down, in the same shapes as the control socket's. */
import type { DaemonUnreachable } from '../../adapters/control/client.ts'
import { SystemClock } from '../../adapters/host/clock.ts'
import { formatOrigin, formatPath } from '../../config/problem.ts'
import { StoppedOutbox } from '../../store/readonly.ts'
import { letterDocument, laneSpans } from '../compose/documents.ts'
import { loadForStart } from '../compose/starting.ts'
import { GatewayError } from '../errors.ts'
import { whyKafkaStopped } from '../why-kafka.ts'
import { devicesFromFiles } from './devices-from-files.ts'
import type { StoppedDocument } from './figures.ts'
import { ledgerDocument } from './ledger-view.ts'
import { patchesFromFiles } from './patches-from-files.ts'

/** `refusal`: what the socket said; it is thrown for a question that the files can't answer. */
export async function fromFiles(path: string, question: string, refusal: DaemonUnreachable): Promise<unknown> {
  const { loaded, leftOut } = loadForStart(path, new SystemClock(), 'command').layered
  const { settings, effective } = loaded
  const url = new URL(question, 'http://files')
  if (url.pathname === '/config') {
    return {
      schema: 1,
      leftOut: leftOut.map(({ label, reason }) => ({ label, reason })),
      values: effective.map(({ path, value, origin }) => ({ path: formatPath(path), value, origin: formatOrigin(origin) })),
    }
  }
  const ofPatches = patchesFromFiles(settings, url)
  if (ofPatches !== undefined) return ofPatches
  const ofDevices = devicesFromFiles(settings, url, refusal.why === 'silent')
  if (ofDevices !== undefined) return ofDevices
  if (url.pathname === '/locks') throw refusal
  const outbox = StoppedOutbox.open(settings.gateway.dataDir, { beside: refusal.why === 'silent' })
  try {
    return answer(outbox, url, settings.buffer.maxBytes, refusal)
  } finally {
    outbox.close()
  }
}

function answer(outbox: StoppedOutbox, { pathname, searchParams }: URL, maxBytes: number, refusal: DaemonUnreachable): unknown {
  const limit = (name: string, otherwise: number): number => Number(searchParams.get(name) ?? otherwise) || otherwise
  if (pathname === '/status' || pathname === '/buffer') return stoppedDocument(outbox, maxBytes, refusal.why === 'silent')
  if (pathname === '/why/kafka') return whyKafkaStopped(stoppedDocument(outbox, maxBytes, refusal.why === 'silent'))
  if (pathname === '/ledger') return ledgerDocument(outbox.totals(), outbox.lines(limit('devices', 20)))
  if (pathname === '/dead-letters')
    return { schema: 1, deadLetters: outbox.deadLetters(limit('limit', 50)).map((letter) => letterDocument(letter, false)) }
  const id = /^\/dead-letters\/(\d+)$/.exec(pathname)?.[1]
  if (id === undefined) throw refusal
  const letter = outbox.deadLetter(Number(id))
  if (letter === undefined) throw new GatewayError('rejected', `there is no dead letter ${id}; \`edgectl dead-letters list\` shows them`)
  return letterDocument(letter, searchParams.get('payload') === '1')
}

function stoppedDocument(outbox: StoppedOutbox, maxBytes: number, silent: boolean): StoppedDocument & { readonly schema: 1 } {
  const lanes = Object.entries(outbox.lanes()).map(([name, { oldestMs, ...lane }]) => {
    const oldest = oldestMs === undefined ? {} : { oldestAgeSeconds: Math.max(0, Math.round((Date.now() - oldestMs) / 1_000)) }
    return [name, { ...lane, ...oldest }] as const
  })
  return {
    schema: 1,
    running: false,
    ...(silent ? { silent } : {}),
    usedBytes: outbox.usedBytes(),
    maxBytes,
    deadLetters: outbox.deadLetterCount,
    lanes: Object.fromEntries(lanes),
    epochs: outbox
      .epochs()
      .map(({ epoch, createdMs, lanes: spans }) => ({ epoch, createdAt: new Date(createdMs).toISOString(), lanes: laneSpans(spans) })),
  }
}
