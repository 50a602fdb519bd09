/** The patch document as people write it (DESIGN section 8). Every object is strict; `derive.ts` gives units in names. */
import { z } from 'zod'
import { DAY, duration, GIB, HOUR, listOf, named, percent, plainText, SECOND, text } from '../schema/scalars.ts'
import { unitName } from '../schema/patches.ts'
import {
  artifactUrl,
  commandWord,
  cronText,
  devicePayload,
  deviceTopic,
  fileMode,
  fileOwner,
  healthCheck,
  insidePath,
  instant,
  percentOf100,
  plainName,
  windowZone,
} from './scalars.ts'

const GATEWAYS_MAX = 5_000
const gatewayId = text(/^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/, 'write the id of a box, as gateway.id has it')
const rootName = text(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/, 'write a name of patches.roots')
const sourceName = text(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/, 'write a name of mqtt.listen or mqtt.connect')
const labels = named(plainText(63), 64, /^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/)
const whole = (min: number, max: number) => z.int().min(min).max(max)

const targetSchema = z.strictObject({
  all: z.boolean().default(false).meta({ description: 'Every box of the fleet. Stands alone, or with exclude.' }),
  sites: listOf(plainText(63), 1, 1_000)
    .optional()
    .meta({ description: 'Boxes of these sites.', example: ['plant-7'] }),
  labels: labels.optional().meta({ description: 'Boxes that have all of these labels.', example: { role: 'packaging' } }),
  gateways: listOf(gatewayId, 1, GATEWAYS_MAX)
    .optional()
    .meta({ description: 'These boxes.', example: ['gw-001'] }),
  exclude: listOf(gatewayId, 1, GATEWAYS_MAX)
    .optional()
    .meta({ description: 'Never these boxes, whatever else is written.', example: ['gw-019'] }),
})

const healthSchema = z.strictObject({
  checks: listOf(healthCheck(), 1, 16)
    .prefault(['pipeline-moving'])
    .meta({ description: 'What must be well: pipeline-moving, unit:NAME.service (systemd says active), http:URL (answers 2xx).' }),
  consecutive: whole(1, 100).default(3).meta({ description: 'So many good rounds in a row are a success.' }),
  deadline: duration(SECOND, 1 * DAY)
    .prefault('2m')
    .meta({ description: 'Time for the first success; then the patch is taken back.' }),
  bake: duration(0, 7 * DAY)
    .prefault('10m')
    .meta({ description: 'Time for which the checks go on afterwards.' }),
})

const stageSchema = z.strictObject({
  count: whole(1, 1_000_000).optional().meta({ description: 'So many boxes in all have it when this stage has begun.', example: 1 }),
  percent: percentOf100()
    .optional()
    .meta({ description: 'So many percent of the boxes in all have it when this stage has begun.', example: 25 }),
  labels: labels.optional().meta({ description: 'The boxes that have all of these labels.', example: { ring: 'canary' } }),
  bake: duration(0, 30 * DAY)
    .prefault('0s')
    .meta({ description: 'Time after the stage is done before the next one begins.' }),
  minDone: percent(0, 100).prefault('90%').meta({ description: 'This part of the stage must be done before the next one begins.' }),
})

const rolloutSchema = z.strictObject({
  stages: z
    .array(stageSchema)
    .min(1)
    .max(32)
    .prefault([{ percent: 100 }])
    .meta({ description: 'Steps of the rollout, each larger than the one before.' }),
  concurrency: z
    .strictObject({
      scope: plainName()
        .optional()
        .meta({ description: 'Boxes that share this lock take turns, over all patches. Default: the channel.', example: 'plant-7' }),
      slots: whole(1, 1_000).default(1).meta({ description: 'So many boxes at once.' }),
    })
    .prefault({})
    .meta({ description: 'How many boxes change at once.' }),
  maxFailures: z
    .strictObject({ count: whole(0, 10_000).default(1).meta({ description: 'More failures than this stop the rollout.' }) })
    .prefault({})
    .meta({ description: 'When the rollout stops by itself.' }),
  onFailure: z
    .enum(['pause', 'rollback-stage', 'rollback-all'])
    .default('pause')
    .meta({ description: 'What happens then: no new starts, or also an undo of this stage or of all.' }),
})

const windowSchema = z.strictObject({
  timezone: windowZone().prefault('site').meta({ description: 'site (the gateway.timezone of each box), or an IANA name.' }),
  cron: cronText().meta({ description: 'When the window opens: minute, hour, day, month, weekday.', example: '0 1 * * 6,0' }),
  duration: duration(SECOND, 7 * DAY).meta({ description: 'How long it stays open.', example: '4h' }),
})

const base = {
  apiVersion: z.literal('edge/v1').meta({ description: 'Version of this format.', example: 'edge/v1' }),
  id: plainName().meta({ description: 'Name of the patch; never used again.', example: '2026-11-raise-limits' }),
  fleet: plainText(63).meta({ description: 'The fleet that it is for. Boxes of other fleets refuse it.', example: 'acme-prod' }),
  channel: plainName().meta({ description: 'Order and supersession are per channel.', example: 'limits' }),
  sequence: whole(1, Number.MAX_SAFE_INTEGER).meta({ description: 'Place in the channel; only upward.', example: 42 }),
  notBefore: instant().optional().meta({ description: 'It does not begin earlier.', example: '2026-11-24T00:00:00Z' }),
  expires: instant().meta({ description: 'The rollout must have begun by then.', example: '2026-12-24T00:00:00Z' }),
  target: targetSchema.meta({ description: 'Which boxes: every part that is written must hold.', example: { sites: ['plant-7'] } }),
  requires: listOf(plainName(), 0, 64).prefault([]).meta({ description: 'Patches that must be applied on the box before.' }),
  supersedes: listOf(plainName(), 0, 64).prefault([]).meta({ description: 'Earlier patches of the channel that this one replaces.' }),
  health: healthSchema.prefault({}).meta({ description: 'How a box knows that it went well.' }),
  rollout: rolloutSchema.prefault({}).meta({ description: 'How it goes through the fleet.' }),
  window: windowSchema.optional().meta({ description: 'Maintenance window. Without it: at any time.' }),
}

const hookSchema = z.strictObject({
  command: z
    .array(commandWord())
    .min(1)
    .max(64)
    .meta({ description: 'The file, absolute or inside the release, and its arguments. No shell reads it.', example: ['bin/check'] }),
  timeout: duration(100, 1 * HOUR)
    .prefault('30s')
    .meta({ description: 'It is killed then, and has failed.' }),
})

const artifactSchema = z.strictObject({
  url: artifactUrl().meta({ description: 'Where it is downloaded from.', example: 'https://downloads.example.com/app-1.4.2.tar.gz' }),
  sha256: text(/^[0-9a-f]{64}$/, 'write the 64 lower-case hex digits that sha256sum prints').meta({
    description: 'What sha256sum prints for it.',
  }),
  bytes: whole(1, 64 * GIB).meta({ description: 'Its exact size in bytes, as stat -c %s prints it.', example: 1048576 }),
  unpack: z
    .enum(['tar', 'none'])
    .default('none')
    .meta({ description: 'tar (plain, gzip or zstd) is unpacked into path; none is placed at path.' }),
  path: insidePath().optional().meta({ description: 'Inside the release. Default for tar: the release itself.', example: 'bin/app' }),
  mode: fileMode().optional().meta({ description: 'Of a file that is placed. Default: "0644".', example: '0755' }),
})

const filesSpecSchema = z.strictObject({
  root: rootName.meta({ description: 'A name of patches.roots; its link is flipped.', example: 'app' }),
  version: plainText(128).meta({ description: 'What the installed software calls itself.', example: '1.4.2' }),
  artifacts: z.array(artifactSchema).min(1).max(64).meta({ description: 'What is downloaded.' }),
  owner: fileOwner().optional().meta({ description: "User and group of all files. Default: the daemon's.", example: 'app:app' }),
  hooks: z
    .strictObject({
      pre: hookSchema.optional().meta({ description: 'Before the flip, with the old release running.' }),
      post: hookSchema.optional().meta({ description: 'After the flip, before the health checks.' }),
      rollback: hookSchema.optional().meta({ description: 'After the old release is back.' }),
    })
    .prefault({})
    .meta({ description: 'Programs of the release that are run on the way.' }),
  units: listOf(unitName, 0, 16).prefault([]).meta({ description: 'Stopped before the flip and started after it, in this order.' }),
  running: hookSchema.optional().meta({ description: 'Prints the version that runs; it must be the version above.' }),
  keep: whole(1, 10).default(2).meta({ description: 'Old releases kept beside the current one.' }),
  localEdits: z
    .enum(['hold', 'replace'])
    .default('hold')
    .meta({ description: "What a technician's local edits do: hold the patch, or get replaced." }),
})

const deviceSpecSchema = z.strictObject({
  devices: plainText(256).meta({
    description: 'Which devices: a pattern of their ids with * (any characters) and ? (one).',
    example: 'cam-*',
  }),
  source: sourceName.optional().meta({ description: 'The listener or connection that reaches them. Default: all.', example: 'lan' }),
  topic: deviceTopic(false).meta({
    description: 'Where the settings are published, retained. With {device}: one message for each device.',
    example: 'devices/{device}/settings',
  }),
  payload: devicePayload().meta({ description: 'The settings, sent as JSON.', example: { interval: 30 } }),
  acknowledge: z
    .strictObject({
      topic: deviceTopic(true).meta({ description: 'Where devices answer.', example: 'devices/{device}/settings/result' }),
      deadline: duration(SECOND, 7 * DAY)
        .prefault('1m')
        .meta({ description: 'Time for their answers.' }),
      minDone: percent(0, 100).prefault('100%').meta({ description: 'This part of the devices that were online must have said ok.' }),
    })
    .optional()
    .meta({ description: 'The answer that is asked for. Default: none; delivery to the broker is enough.' }),
})

const kind = <K extends string>(name: K) => z.literal(name).meta({ description: 'What the patch changes.', example: name })

/** By kind. The config's own keys are checked against the config's schema where it matters (`check.ts`). */
export const patchSchemas = {
  config: z.strictObject({
    kind: kind('config'),
    ...base,
    spec: z.record(z.string(), z.unknown()).meta({
      description: 'JSON merge patch (RFC 7396) on the configuration file; null removes a key.',
      example: { log: { level: 'info' } },
    }),
  }),
  files: z.strictObject({ kind: kind('files'), ...base, spec: filesSpecSchema.meta({ description: 'Software beside the gateway.' }) }),
  device: z.strictObject({ kind: kind('device'), ...base, spec: deviceSpecSchema.meta({ description: 'Settings of devices.' }) }),
} as const

/** For a document whose kind is missing or unknown, so that all else that is wrong is told with it. */
export const anyKindSchema = z.strictObject({
  kind: z.enum(['config', 'files', 'device']).meta({ description: 'What the patch changes.', example: 'config' }),
  ...base,
  spec: z.unknown().optional().meta({ description: 'The change.' }),
})

export type ParsedPatch = { readonly [K in keyof typeof patchSchemas]: z.output<(typeof patchSchemas)[K]> }[keyof typeof patchSchemas]
