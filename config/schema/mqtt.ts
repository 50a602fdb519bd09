import { z } from 'zod'
import { clientTlsSchema, serverTlsSchema } from './tls.ts'
import { topicPattern } from './topic.ts'
import { absolutePath, duration, endpoint, KIB, listOf, MIB, named, plainText, SECOND, size, text } from './scalars.ts'

const MQTT_URL = { plain: 'mqtt', secure: 'mqtts', plainPort: 1883, securePort: 8883 }
/** MQTT 5 section 3.1.2.11.2: four bytes of seconds, of which the highest value means for ever. */
const MAX_SESSION_EXPIRY = 0xffff_fffe * SECOND
/** MQTT section 3.1.2.10: two bytes of seconds. */
const MAX_KEEPALIVE = 65_535 * SECOND

const authSchema = z.strictObject({
  passwordFile: absolutePath('file')
    .optional()
    .meta({ description: 'User names and password hashes, in the format of mosquitto_passwd. Read again when it changes.' }),
  aclFile: absolutePath('file').optional().meta({
    description:
      'Which user may publish to which topics, in the format of mosquitto\'s acl_file; a rule under "user NAME" may name other devices. Default: a device publishes only as itself.',
  }),
  deviceFrom: z.enum(['username', 'clientId', 'commonName']).default('username').meta({
    description: 'What names the device that a connection belongs to: its user name, its client id or the common name of its certificate.',
  }),
})

const listenerSchema = z.strictObject({
  url: endpoint(MQTT_URL, 0).meta({
    description: 'Where to listen: mqtt://host:port, or mqtts:// with TLS.',
    example: 'mqtt://127.0.0.1:1883',
  }),
  tls: serverTlsSchema.optional().meta({ description: 'Certificates of an mqtts:// listener.' }),
  auth: z
    .union([z.literal('none'), authSchema], { error: 'write none, or a map such as { passwordFile: /etc/edge-gateway/devices.passwd }' })
    .optional()
    .meta({
      description:
        'How devices prove who they are. Default: none on loopback; the certificate where one is required; elsewhere it must be written.',
    }),
  maxConnections: z.int().min(1).max(1_000_000).default(5_000).meta({ description: 'Connections at once; further ones are refused.' }),
  connectsPerSecond: z
    .number()
    .min(0.1)
    .max(100_000)
    .default(200)
    .meta({ description: 'New connections per second; further ones wait or are refused. A TLS handshake costs milliseconds of CPU.' }),
  maxKeepalive: duration(10 * SECOND, MAX_KEEPALIVE)
    .prefault('1h')
    .meta({ description: 'A device that asks for a longer keepalive, or none, is taken as gone after one and a half times this.' }),
  inFlightPerConnection: z
    .strictObject({
      messages: z.int().min(1).max(65_535).default(500).meta({ description: 'Messages of one connection that are not yet durable.' }),
      bytes: size(KIB, 256 * MIB)
        .prefault('1MiB')
        .meta({ description: 'Bytes of those messages. At least limits.maxMessageBytes.' }),
    })
    .prefault({})
    .meta({ description: 'What one connection may have under way; beyond it, its socket is not read.' }),
})

const connectionSchema = z.strictObject({
  url: endpoint(MQTT_URL, 1)
    .optional()
    .meta({ description: 'The broker: mqtt://host:port or mqtts://host:port.', example: 'mqtt://127.0.0.1:1884' }),
  urls: listOf(endpoint(MQTT_URL, 1), 1, 8)
    .optional()
    .meta({ description: 'Instead of url: several addresses of one broker or cluster, tried in turn.' }),
  clientId: text(/^[^\u0000-\u001f\u007f+#/]{1,128}$/, 'write 1 to 128 characters without +, #, / or control characters')
    .optional()
    .meta({
      description:
        'MQTT client id; the broker keeps the session under it, so it must never change. Default: <gateway.id>-<name of this entry>.',
    }),
  protocolVersion: z
    .union([z.literal(4), z.literal(5)], { error: 'write 5 (MQTT 5) or 4 (MQTT 3.1.1)' })
    .default(5)
    .meta({ description: '5, or 4 for MQTT 3.1.1.' }),
  sessionExpiry: duration(0, MAX_SESSION_EXPIRY)
    .prefault('7d')
    .meta({ description: 'How long the broker keeps the session while the gateway is away (MQTT 5). What comes after is lost.' }),
  receiveMaximum: z
    .int()
    .min(1)
    .max(65_535)
    .default(1_000)
    .meta({ description: 'Unacknowledged messages that the broker may send at once (MQTT 5).' }),
  keepalive: duration(5 * SECOND, MAX_KEEPALIVE)
    .prefault('30s')
    .meta({ description: 'A link on which nothing moves for this long is probed, and given up when no answer comes.' }),
  username: plainText(256).optional().meta({ description: 'User name at the broker.' }),
  passwordFile: absolutePath('file')
    .optional()
    .meta({ description: 'File that holds the password and nothing else. Read again at each connect.' }),
  tls: clientTlsSchema.optional().meta({ description: 'Certificates of an mqtts:// link.' }),
  retained: z
    .enum(['ignore', 'accept'])
    .default('ignore')
    .meta({ description: 'Retained messages come again at each subscribe; accepted ones are duplicates then.' }),
})

const topicSchema = z.strictObject({
  pattern: topicPattern.meta({
    description:
      'Topic filter with named levels: {name} is one level, {name...} at the end all that remain. {device} is needed, {stream} names the stream.',
    example: 'devices/{device}/logs/{stream}',
  }),
  qos: z
    .union([z.literal(0), z.literal(1), z.literal(2)], { error: 'write 0, 1 or 2' })
    .default(1)
    .meta({ description: "QoS of the gateway's subscription at a broker (2 is subscribed as 1). A listener takes what devices send." }),
  sources: listOf(z.string(), 1, 32)
    .optional()
    .meta({ description: 'Names of the connections (mqtt.connect) that subscribe to it. Default: all. A listener takes every topic.' }),
})

export const mqttSchema = z.strictObject({
  listen: named(listenerSchema, 16).optional().meta({
    description:
      'Listeners: the gateway is the MQTT endpoint of devices (MQTT 3.1.1). Default: one named "local" on mqtt://127.0.0.1:1883, unless mqtt.connect is written.',
  }),
  connect: named(connectionSchema, 16).optional().meta({ description: 'Connections to brokers that are already there.' }),
  topics: named(topicSchema, 64)
    .prefault({ 'device-logs': { pattern: 'devices/{device}/logs/{stream}' } })
    .meta({
      description: 'Topics that carry device logs; the first that matches counts. What matches none is acknowledged, counted and not kept.',
    }),
})
