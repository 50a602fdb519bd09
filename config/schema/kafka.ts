import { z } from 'zod'
import { kindOf, shown, Wrong } from '../units.ts'
import { clientTlsSchema } from './tls.ts'
import { absolutePath, byteRate, duration, hostPort, KIB, listOf, MIB, plainText, scalar, SECOND, size, text } from './scalars.ts'

/** Kafka's rule for topic names: 1 to 249 of these characters, and neither "." nor "..". */
const TOPIC_NAME = /^(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}$/
const TOPIC_RULE = 'write 1 to 249 letters, digits, ".", "_" or "-"'

const topic = scalar(
  (value) => {
    if (typeof value !== 'string') return new Wrong(`expected the name of a topic, got ${kindOf(value)}; write for example device-logs`)
    const outside = value.replace(/\{[a-z][A-Za-z0-9_]*\}/g, 'x')
    if (/[{}]/.test(outside)) return new Wrong(`cannot read the parts of ${shown(value)}; write for example logs.{stream}`)
    return TOPIC_NAME.test(outside) ? value : new Wrong(`${shown(value)} is no topic name; ${TOPIC_RULE}`)
  },
  { type: 'string', pattern: '^[A-Za-z0-9._{}-]+$' },
)

const saslPasswordSchema = z.strictObject({
  mechanism: z.enum(['plain', 'scram-sha-256', 'scram-sha-512']).meta({ description: 'How the gateway proves who it is.' }),
  username: plainText(256).meta({ description: 'User name at Kafka.', example: 'gw-001' }),
  passwordFile: absolutePath('file').meta({
    description: 'File that holds the password and nothing else. Read again at each connect.',
    example: '/etc/edge-gateway/kafka.passwd',
  }),
})

const saslTokenSchema = z.strictObject({
  mechanism: z.literal('oauthbearer').meta({ description: 'How the gateway proves who it is.' }),
  tokenFile: absolutePath('file')
    .optional()
    .meta({ description: 'File that holds a token which something else keeps fresh. Read again at each connect.' }),
  tokenUrl: text(/^https?:\/\/[^\s@]+$/, 'write an http:// or https:// URL without a password')
    .optional()
    .meta({ description: 'Instead of tokenFile: where a token is asked for (OAuth 2 client credentials).' }),
  clientId: plainText(256).optional().meta({ description: 'Client id at tokenUrl.' }),
  clientSecretFile: absolutePath('file').optional().meta({ description: 'File that holds the client secret for tokenUrl.' }),
  scope: plainText(1024).optional().meta({ description: 'Scope to ask for at tokenUrl.' }),
})

export const kafkaSchema = z.strictObject({
  brokers: listOf(hostPort(), 1, 32).meta({ description: 'Brokers to ask first, as host:port.', example: ['127.0.0.1:9092'] }),
  topic: topic
    .prefault('device-logs')
    .meta({ description: 'Topic of device logs: a name, or a template of topic parts such as logs.{stream}, with allowedTopics.' }),
  allowedTopics: listOf(text(TOPIC_NAME, TOPIC_RULE), 1, 256)
    .optional()
    .meta({ description: 'Topics that a template may lead to. A message for another becomes a dead letter.' }),
  prefix: text(/^(?!\.{1,2}$)[A-Za-z0-9._-]{1,200}$/, 'write 1 to 200 letters, digits, ".", "_" or "-"')
    .prefault('edge')
    .meta({
      description: "Begins the names of the gateway's own topics, its consumer groups and its transactional id.",
    }),
  delivery: z
    .enum(['exactly-once', 'at-least-once'])
    .default('exactly-once')
    .meta({ description: 'at-least-once is for brokers without transactions.' }),
  compression: z.enum(['gzip', 'none']).default('gzip').meta({ description: 'Compression of batches.' }),
  uplinkBytesPerSecond: byteRate({ min: KIB, max: 10_000 * MIB })
    .prefault('unlimited')
    .meta({ description: 'Most bytes per second that are sent to Kafka, or unlimited.' }),
  transaction: z
    .strictObject({
      maxBytes: size(16 * KIB, 4 * MIB)
        .prefault('4MiB')
        .meta({ description: 'Most bytes of one transaction, before compression; less on a slow link. One record alone may be larger.' }),
      linger: duration(0, 60 * SECOND)
        .prefault('500ms')
        .meta({ description: 'How long a transaction waits for more messages.' }),
      perSecond: z.number().min(0.01).max(100).default(2).meta({ description: 'Transactions per second while little is waiting.' }),
    })
    .prefault({})
    .meta({ description: 'How messages are gathered into Kafka transactions.' }),
  unsyncedClock: z.enum(['hold', 'send']).default('hold').meta({
    description: 'Messages received while the clock was not yet right: hold them until it is, or send them at once, marked.',
  }),
  tls: clientTlsSchema.optional().meta({ description: "TLS to the brokers; { } uses the system's authorities." }),
  sasl: z
    .discriminatedUnion('mechanism', [saslPasswordSchema, saslTokenSchema])
    .optional()
    .meta({ description: 'Authentication at the brokers.' }),
})
