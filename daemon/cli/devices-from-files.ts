/** What is known of devices while the daemon is down: what it wrote down last. */
import { SystemClock } from '../../adapters/host/clock.ts'
import type { Settings } from '../../config/settings.ts'
import { readMemory } from '../../store/memory.ts'
import { devicesDocument, rowOf } from '../compose/device-documents.ts'
import { findDevices, similarIds } from '../compose/device-query.ts'
import { questionOf } from '../compose/device-routes.ts'
import { presenceSettings } from '../compose/device-watch.ts'
import { whyDevice, whyStranger } from '../compose/device-why.ts'
import { GatewayError } from '../errors.ts'
import { Presence } from '../ingest/presence.ts'
import { PRESENCE, remembered } from '../ingest/presence-memory.ts'
import { NONE } from '../ingest/presence-table.ts'
import type { DeviceDocument } from './device-documents.ts'

const SIMILAR_MAX = 10

/** Undefined: it is no question on devices. */
export function devicesFromFiles(settings: Settings, { pathname, searchParams }: URL): object | undefined {
  if (pathname === '/devices') {
    const { presence, clock } = known(settings)
    const found = findDevices(presence, questionOf(searchParams), clock.monotonicMs())
    return { ...devicesDocument(presence, found, [], clock), running: false }
  }
  const [, asked, encoded = ''] = /^\/(devices|why\/device)\/([^/]+)$/.exec(pathname) ?? []
  if (asked === undefined) return undefined
  const { presence, clock } = known(settings)
  const device = decodeURIComponent(encoded)
  const slot = presence.table.find(device)
  if (slot === NONE && asked === 'devices')
    throw new GatewayError('rejected', 'the daemon is down, and remembers no device of this id', { remedy: 'start it, then ask again' })
  if (slot === NONE) return down(whyStranger(stranger(presence, device, settings)))
  const document: DeviceDocument = {
    schema: 1,
    running: false,
    at: new Date(clock.wallMs()).toISOString(),
    ...rowOf(presence, slot, clock),
    deadLetters: 0,
    refusals: [],
  }
  return asked === 'devices' ? document : down(whyDevice(document, ['the daemon is down, and hears nobody']))
}

function known(settings: Settings): { readonly presence: Presence; readonly clock: SystemClock } {
  const clock = new SystemClock()
  const nobody = { silent: () => undefined, returned: () => undefined }
  const presence = new Presence(presenceSettings(settings), nobody, () => 0, clock.monotonicMs())
  const { entries, reason } = readMemory(settings.gateway.dataDir, PRESENCE)
  if (reason !== undefined) throw new GatewayError('rejected', reason)
  presence.restore(remembered(entries.values(), clock))
  return { presence, clock }
}

function stranger(presence: Presence, device: string, { mqtt }: Settings) {
  const patterns = Object.values(mqtt.topics).map(({ pattern }) => pattern)
  return {
    device,
    similar: similarIds(presence, device, SIMILAR_MAX),
    refusals: [],
    others: [],
    patterns,
    deaf: ['the daemon is down, and hears nobody'],
  }
}

function down<Document extends object>(document: Document): Document & { readonly running: false; readonly remedy: string } {
  return { ...document, running: false, remedy: 'systemctl start edge-gateway' }
}
