import { isDeepStrictEqual } from 'node:util'
import { changes } from '../../config/changes.ts'
import type { KafkaSettings, Settings } from '../../config/settings.ts'
import type { Parts } from '../compose.ts'
import { messageOf } from '../errors.ts'
import type { Log } from '../ports.ts'
import { ingestSettings, outboxSettings, relaySettings } from './settings.ts'
import { kafkaOf } from './kafka.ts'

/**
 * Applies a valid new configuration: what can change live does, at once; the rest is named in the log. Returns the
 * settings that are in force from now on.
 */
export function reconfigure(parts: Parts, inForce: Settings, wanted: Settings, log: Log): Settings {
  const next = takenLive(inForce, wanted)
  const taken = changes(inForce, next)
  const live = taken.map((change) => change.path)
  const later = changes(next, wanted).map((change) => change.path)
  if (live.length + later.length === 0) {
    log.info({}, 'the configuration has not changed')
    return inForce
  }
  try {
    // The intake checks its settings as a whole, so it comes first: if it refuses, nothing has changed.
    parts.intake.configure(ingestSettings(next))
    parts.outbox.configure(outboxSettings(next))
    parts.relay.configure(relaySettings(next))
    if (taken.some((change) => change.component === 'relay')) parts.relay.connectTo(kafkaOf(next, parts.clock, log))
    parts.log.setLevel(next.log.level)
  } catch (error) {
    log.error({ err: messageOf(error) }, 'the new configuration can not be applied; the old one stays in force')
    return inForce
  }
  log.info(
    { live, afterRestart: later },
    later.length === 0 ? 'the new configuration is in force' : 'the new configuration is in force, except what waits for a restart',
  )
  return next
}

/** Positions, epochs and sockets belong to what names them: all of that stays as it is until a restart. */
function takenLive(inForce: Settings, wanted: Settings): Settings {
  const { gateway, mqtt, ledger, etcd, patches, metrics, page, control } = inForce
  return {
    ...wanted,
    gateway: { ...wanted.gateway, id: gateway.id, dataDir: gateway.dataDir },
    mqtt,
    limits: {
      ...wanted.limits,
      maxMessageBytes: inForce.limits.maxMessageBytes,
      maxPacketBytes: inForce.limits.maxPacketBytes,
      knownDevices: inForce.limits.knownDevices,
    },
    buffer: { ...wanted.buffer, dedupe: inForce.buffer.dedupe },
    ledger,
    kafka: kafkaTakenLive(inForce, wanted),
    etcd,
    patches,
    metrics,
    page,
    control,
  }
}

function kafkaTakenLive(inForce: Settings, wanted: Settings): KafkaSettings | undefined {
  const { kafka } = inForce
  if (kafka === undefined || wanted.kafka === undefined) return wanted.kafka
  const { prefix, topic, topicParts, allowedTopics } = kafka
  // A template may be made for the patterns that wait: without their parts each message would be a dead letter.
  const waits = isDeepStrictEqual(inForce.mqtt.topics, wanted.mqtt.topics) ? { prefix } : { prefix, topic, topicParts, allowedTopics }
  return { ...wanted.kafka, ...waits }
}
