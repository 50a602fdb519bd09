import { changes } from '../../config/changes.ts'
import type { Settings } from '../../config/settings.ts'
import type { Parts } from '../compose.ts'
import { messageOf } from '../errors.ts'
import type { Log } from '../ports.ts'
import { ingestSettings, outboxSettings, relaySettings } from './settings.ts'
import { kafkaOf } from './kafka.ts'

/** Applies a valid new configuration: what can change live does, at once; the rest is named in the log. */
export function reconfigure(parts: Parts, before: Settings, after: Settings, log: Log): void {
  const found = changes(before, after)
  if (found.length === 0) return log.info({}, 'the configuration has not changed')
  const live = found.filter((change) => change.apply === 'live').map((change) => change.path)
  const later = found.filter((change) => change.apply === 'restart').map((change) => change.path)
  try {
    // The intake checks its settings as a whole, so it comes first: if it refuses, nothing has changed.
    parts.intake.configure(ingestSettings(after))
    parts.outbox.configure(outboxSettings(after))
    parts.relay.configure(relaySettings(after))
    if (found.some((change) => change.component === 'relay' && change.apply === 'live')) parts.relay.connectTo(kafkaOf(after, parts.clock, log))
    parts.log.setLevel(after.log.level)
  } catch (error) {
    return log.error({ err: messageOf(error) }, 'the new configuration can not be applied; the old one stays in force')
  }
  log.info({ live, afterRestart: later }, later.length === 0 ? 'the new configuration is in force' : 'the new configuration is in force, except what waits for a restart')
}
