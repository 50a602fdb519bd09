import { overrideOf, syslogSeverity, SYSLOG_SEVERITIES } from '../derive.ts'
import type { Finding } from '../issues.ts'
import type { Path } from '../problem.ts'
import type { Config } from '../schema.ts'
import { HOUR } from '../schema/scalars.ts'
import type { BucketSettings } from '../settings.ts'
import { formatDuration, formatPercent, formatSize } from '../units.ts'
import { type Relation, relation, warning, wrong } from './relation.ts'

type Limits = Config['limits']

export const limitRelations: readonly Relation[] = [
  relation(['limits'], ({ limits }) => buckets(limits)),
  relation(['limits'], ({ limits }) => inFlight(limits)),
  relation(['limits'], ({ limits }) => severityWords(limits)),
]

function* buckets(limits: Limits): Iterable<Finding> {
  yield* bucket({ ...limits.global, burstMs: limits.global.burst }, limits, ['limits', 'global'])
  yield* bucket({ ...limits.perDevice, burstMs: limits.perDevice.burst }, limits, ['limits', 'perDevice'])
  for (const name of Object.keys(limits.overrides)) yield* bucket(overrideOf(limits, name), limits, ['limits', 'overrides', name])
}

/** A bucket that can never hold one message admits none, for ever. */
function* bucket(rates: BucketSettings, limits: Limits, path: Path): Iterable<Finding> {
  const reserve = limits.severity.from.kind === 'none' ? 0 : limits.severity.reserve
  const share = 1 - reserve
  const rest = reserve === 0 ? '' : ` less the ${formatPercent(reserve)} of limits.severity.reserve`
  const messages = ((rates.messagesPerSecond * rates.burstMs) / 1_000) * share
  if (messages < 1) {
    yield wrong(
      [...path, 'burst'],
      `${rates.messagesPerSecond} messages per second for ${formatDuration(rates.burstMs)}${rest} is less than one message, so that none would ever pass; ` +
        advice(1_000 / (rates.messagesPerSecond * share)),
    )
  }
  const bytes = ((rates.bytesPerSecond * rates.burstMs) / 1_000) * share
  if (bytes >= limits.maxMessageBytes) return
  yield wrong(
    [...path, 'burst'],
    `${formatSize(rates.bytesPerSecond)} per second for ${formatDuration(rates.burstMs)}${rest} is less than a message of limits.maxMessageBytes (${formatSize(limits.maxMessageBytes)}), ` +
      `so that such a one would never pass; ${advice((limits.maxMessageBytes * 1_000) / (rates.bytesPerSecond * share))}`,
  )
}

/** Rounded up to a tenth of a second, or to seconds when it is long. */
function advice(burstMs: number): string {
  if (burstMs > HOUR) return 'write a higher rate'
  const step = burstMs > 10_000 ? 1_000 : 100
  return `write a burst of at least ${formatDuration(Math.ceil(burstMs / step - 1e-9) * step)}`
}

function* inFlight(limits: Limits): Iterable<Finding> {
  if (limits.inFlight.bytes >= limits.maxMessageBytes) return
  yield wrong(
    ['limits', 'inFlight', 'bytes'],
    `${formatSize(limits.inFlight.bytes)} can never hold a message of limits.maxMessageBytes; write at least ${formatSize(limits.maxMessageBytes)}`,
  )
}

/** The keywords, and what else people call them (syslog(3)). */
const SYSLOG_WORDS: ReadonlySet<string> = new Set([
  ...SYSLOG_SEVERITIES,
  'emergency',
  'panic',
  'critical',
  'error',
  'warn',
  'information',
  'fatal',
])

function* severityWords({ severity }: Limits): Iterable<Finding> {
  const path = ['limits', 'severity', 'urgent']
  if (severity.from.kind === 'pattern' && severity.urgent !== undefined)
    yield warning(path, 'with a pattern, every match is urgent and this list has no meaning; remove it')
  if (severity.from.kind !== 'syslog') return
  for (const [index, word] of (severity.urgent ?? []).entries()) {
    if (SYSLOG_WORDS.has(syslogSeverity(word))) continue
    yield wrong([...path, index], `${JSON.stringify(word)} is no syslog severity; write ${SYSLOG_SEVERITIES.join(', ')}, or 0 to 7`)
  }
}
