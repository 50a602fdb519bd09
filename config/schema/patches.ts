import { z } from 'zod'
import { clientTlsSchema } from './tls.ts'
import { shown, Wrong } from '../units.ts'
import { absolutePath, duration, endpoint, listOf, MINUTE, named, plainText, scalar, SECOND, text } from './scalars.ts'

export const etcdSchema = z.strictObject({
  endpoints: listOf(endpoint({ plain: 'http', secure: 'https', plainPort: 2379, securePort: 2379 }, 1), 1, 9).meta({
    description: 'Members of the etcd cluster, as http://host:port or https://host:port.',
    example: ['https://etcd-1:2379'],
  }),
  prefix: text(/^\/([A-Za-z0-9._-]+\/)+$/, 'write a path that begins and ends with "/", for example /edge/v1/')
    .prefault('/edge/v1/')
    .meta({ description: 'All keys of the fleet lie under it.' }),
  tls: clientTlsSchema.optional().meta({ description: 'Certificates of an https:// link.' }),
  username: plainText(256).optional().meta({ description: 'User name at etcd.' }),
  passwordFile: absolutePath('file')
    .optional()
    .meta({ description: 'File that holds the password and nothing else. Read again when it changes.' }),
})

/** An ed25519 public key: 32 bytes, RFC 8032 section 5.1.5. */
const ed25519Key = scalar(
  (value) => {
    const rule = 'write the 32 bytes of an ed25519 public key in base64 (44 characters), as "edgectl patch keygen" prints it'
    if (typeof value !== 'string' || !/^[A-Za-z0-9+/]{43}=$/.test(value)) return new Wrong(`this is no key; ${rule}`)
    // A last character with stray bits would be a second spelling of the same key.
    return Buffer.from(value, 'base64').toString('base64') === value ? value : new Wrong(`this is no canonical base64; ${rule}`)
  },
  { type: 'string', pattern: '^[A-Za-z0-9+/]{43}=$' },
)

const trustedKeySchema = z.strictObject({
  ed25519: ed25519Key.meta({ description: 'The public key in base64.', example: '11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=' }),
  kinds: listOf(z.enum(['config', 'files', 'device']), 1, 3).meta({
    description: 'Kinds of patches that the key may sign.',
    example: ['config'],
  }),
  sites: z.union([z.literal('all'), listOf(plainText(63), 1, 1_000)], { error: 'write all, or a list of sites such as [plant-7]' }).meta({
    description: 'Sites for which the key may sign: all, or a list.',
    example: 'all',
  }),
})

/** Name of a systemd unit that patches may touch. */
export const unitName = scalar(
  (value) => {
    if (typeof value === 'string' && /^[A-Za-z0-9:_.@-]{1,240}\.(service|socket|timer|path|target)$/.test(value)) return value
    return new Wrong(`${shown(value)} is no systemd unit; write for example app.service`)
  },
  { type: 'string', pattern: '\\.(service|socket|timer|path|target)$' },
)

const EXECUTOR_SOCKET = '/run/edge-gateway-executor.sock'

const executorSocket = scalar(
  (value) => {
    if (value === 'off') return undefined
    if (value === 'auto') return { socket: EXECUTOR_SOCKET, ifThere: true }
    const isPath = typeof value === 'string' && /^\/[^\u0000-\u001f]{1,106}$/.test(value)
    return isPath
      ? { socket: value, ifThere: false }
      : new Wrong(`${shown(value)} is no socket; write auto, off, or the absolute path of a socket`)
  },
  { type: 'string', pattern: '^(auto|off|/.+)$' },
)

export const patchesSchema = z.strictObject({
  controller: z.boolean().default(false).meta({ description: 'This box may lead rollouts. One to three boxes of a fleet should.' }),
  trustedKeys: named(trustedKeySchema, 32).prefault({}).meta({ description: 'Keys whose patches are accepted.' }),
  lockTtl: duration(5 * SECOND, 10 * MINUTE)
    .prefault('15s')
    .meta({ description: 'Life of a lock whose holder has fallen silent.' }),
  roots: named(absolutePath('folder'), 32)
    .prefault({})
    .meta({ description: 'Folders of software that patches of kind files may change, by name.' }),
  units: listOf(unitName, 0, 64).prefault([]).meta({ description: 'systemd units that patches may stop and start.' }),
  executor: executorSocket.prefault('auto').meta({
    description:
      'Who changes roots: the small root program behind this socket; auto is the usual one where it is installed; off: the gateway itself.',
  }),
  hookUser: text(/^[a-z_][a-z0-9_-]{0,31}$/, 'write the name of a user of this box, for example app')
    .optional()
    .meta({ description: "Whom the executor runs hooks as. Default: the root's owner or the patch's, but never root.", example: 'app' }),
})
