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
export function devicesFromFiles(settings: Settings, { pathname, searchParams }: URL, isSilent: boolean): object | undefined {
  if (pathname === '/devices') {
    const { presence, clock } = known(settings)
    const found = findDevices(presence, questionOf(searchParams), clock.monotonicMs())
    return { ...devicesDocument(presence, found, [], clock), running: false }
  }
  const [, asked, encoded = ''] = /^\/(devices|why\/device)\/([^/]+)$/.exec(pathname) ?? []
  if (asked === undefined) return undefined
  const { presence, clock } = known(settings)
  const device = decodeURIComponent(encoded)
  const now = isSilent ? SILENT : DOWN
  const slot = presence.table.find(device)
  if (slot === NONE && asked === 'devices')
    throw new GatewayError('rejected', `${now.short}, and remembers no device of this id`, { remedy: `${now.remedy}, then ask again` })
  if (slot === NONE) return { ...whyStranger(stranger(presence, device, settings, now.words)), running: false, remedy: now.remedy }
  const document: DeviceDocument = {
    schema: 1,
    running: false,
    at: new Date(clock.wallMs()).toISOString(),
    ...rowOf(presence, slot, clock),
    deadLetters: 0,
    refusals: [],
  }
  return asked === 'devices' ? document : { ...whyDevice(document, [now.words]), running: false, remedy: now.remedy }
}

const DOWN = { short: 'the daemon is down', words: 'the daemon is down, and hears nobody', remedy: 'systemctl start edge-gateway' }
const SILENT = {
  short: 'the daemon does not answer',
  words: 'the daemon runs, but does not answer, and may hear nobody',
  remedy: 'systemctl restart edge-gateway',
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

function stranger(presence: Presence, device: string, { mqtt }: Settings, deaf: string) {
  const patterns = Object.values(mqtt.topics).map(({ pattern }) => pattern)
  return {
    device,
    similar: similarIds(presence, device, SIMILAR_MAX),
    refusals: [],
    others: [],
    patterns,
    deaf: [deaf],
  }
}
