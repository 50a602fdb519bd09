import { isDeepStrictEqual } from 'node:util'
import { changes } from '../../config/changes.ts'
import type { KafkaSettings, Settings } from '../../config/settings.ts'
import { ingestSettings, outboxSettings, relaySettings } from './settings.ts'
import { presenceSettings } from './device-watch.ts'
import { kafkaOf } from './kafka.ts'
import { pageOf } from './page.ts'
import { knownDevicesOf, metricsOf, sourcePlans, type Parts } from './parts.ts'
import { allOrNothing, type Step } from './steps.ts'

/** What a reload did. */
export interface Reloaded {
  /** In force from now on. */
  readonly settings: Settings
  /** Keys that were taken over. */
  readonly live: readonly string[]
  /** Keys whose new values wait for a restart. */
  readonly later: readonly string[]
}

/**
 * Applies a valid new configuration: what can change live does, all of it or nothing; the rest is named. Rejects with the
 * reason when a part can't take it (a port is taken, a file can't be read), after the old one is in force again, whole.
 */
export async function reconfigure(parts: Parts, inForce: Settings, wanted: Settings): Promise<Reloaded> {
  const settings = takenLive(inForce, wanted)
  const live = changes(inForce, settings).map(({ path }) => path)
  const later = changes(settings, wanted).map(({ path }) => path)
  await allOrNothing(steps(parts, inForce, settings), parts.log)
  return { settings, live, later }
}

/**
 * The intake checks its settings as a whole, so it comes first; it also must know new topics and sources before they
 * deliver. What may fail for reasons outside comes before what only steers the flow.
 */
function steps(parts: Parts, before: Settings, next: Settings): readonly Step[] {
  const steered = (part: string, configure: (settings: Settings) => void): Step => ({
    part,
    change: () => {
      configure(next)
      return { undo: () => configure(before) }
    },
  })
  const relay = (settings: Settings): void => {
    parts.relay.configure(relaySettings(settings))
    if (!isDeepStrictEqual(before.kafka, next.kafka)) parts.relay.connectTo(kafkaOf(settings, parts.clock, parts.log))
  }
  return [
    steered('intake', (settings) => parts.intake.configure(ingestSettings(settings))),
    steered('device watch', (settings) => parts.devices.configure(presenceSettings(settings))),
    { part: 'known devices', change: () => parts.knownDevices.become(knownDevicesOf(next)) },
    { part: 'metrics', change: () => parts.metrics.become(metricsOf(next)) },
    { part: 'page', change: () => parts.page.become(pageOf(next)) },
    { part: 'sources', change: () => parts.sources.become(sourcePlans(next, parts)) },
    steered('buffer', (settings) => parts.outbox.configure(outboxSettings(settings))),
    steered('relay', relay),
    steered('log', (settings) => parts.log.setLevel(settings.log.level)),
  ]
}

/** What names the past (id, folder, prefix) stays until a restart; so does what patches come through. */
function takenLive(inForce: Settings, wanted: Settings): Settings {
  const { gateway, etcd, patches, control } = inForce
  return {
    ...wanted,
    gateway: { ...wanted.gateway, id: gateway.id, dataDir: gateway.dataDir },
    kafka: kafkaTakenLive(inForce, wanted),
    etcd,
    patches,
    control,
  }
}

function kafkaTakenLive({ kafka }: Settings, wanted: Settings): KafkaSettings | undefined {
  if (kafka === undefined || wanted.kafka === undefined) return wanted.kafka
  return { ...wanted.kafka, prefix: kafka.prefix }
}
