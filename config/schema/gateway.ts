import { z } from 'zod'
import { Wrong } from '../units.ts'
import { absolutePath, named, plainText, scalar, text } from './scalars.ts'

/** Timezones as the runtime's own tables know them. */
const timezone = scalar(
  (value) => {
    if (typeof value !== 'string' || !isTimezone(value))
      return new Wrong('expected an IANA time zone; write for example Europe/Berlin or UTC')
    return value
  },
  { type: 'string' },
)

/** True for an IANA name that this runtime's tables have. */
export function isTimezone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== '' && !/^[+-]/.test(name)
  } catch {
    return false
  }
}

/**
 * No dot in an id: the Kafka names `<prefix>.<gateway>` and `<prefix>.<gateway>.<epoch>` would otherwise be
 * the same for two different boxes, which would fence each other for ever.
 */
const gatewayId = text(
  /^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/,
  'write 1 to 63 letters, digits, "-" or "_", beginning with a letter or digit (a dot would make Kafka names ambiguous)',
)

export const gatewaySchema = z.strictObject({
  id: gatewayId.optional().meta({
    description:
      'Name of this box in Kafka, etcd and MQTT. Default: "gw-" and 12 hex digits of a hash of the board\'s serial number, else of /etc/machine-id. Never the host name.',
    example: 'gw-001',
  }),
  site: plainText(63).optional().meta({ description: 'Where the box stands; patches can be aimed at sites.', example: 'plant-7' }),
  timezone: timezone.prefault('UTC').meta({ description: 'Time zone of maintenance windows (IANA name).' }),
  labels: named(plainText(63), 64, /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/)
    .prefault({})
    .meta({ description: 'Labels of the box; patches can be aimed at them.' }),
  fleet: plainText(63).optional().meta({ description: 'Name of the fleet. A patch for another fleet is refused.', example: 'acme-prod' }),
  dataDir: absolutePath('folder').optional().meta({
    description:
      'Folder of the buffer and the journal, on a local disk. Default: STATE_DIRECTORY as systemd sets it, else /var/lib/edge-gateway.',
    example: '/var/lib/edge-gateway',
  }),
})
