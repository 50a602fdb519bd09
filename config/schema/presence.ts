import { z } from 'zod'
import { DAY, durationOr, named, plainText, SECOND } from './scalars.ts'

const silentAfter = () => durationOr({ off: Infinity }, 10 * SECOND, 30 * DAY)

const groupSchema = z.strictObject({
  devices: plainText(256).meta({
    description: 'Which devices: a pattern of their ids with * (any characters) and ? (one).',
    example: 'cam-*',
  }),
  silentAfter: silentAfter().meta({ description: 'As above, for these devices; or off.', example: '1h' }),
})

export const presenceSchema = z.strictObject({
  silentAfter: silentAfter()
    .prefault('10m')
    .meta({ description: 'A device that neither sends a message nor is connected for so long is told of as silent; or off.' }),
  maxDevices: z.int().min(100).max(1_000_000).default(50_000).meta({
    description: 'Devices that are remembered; beyond it the one that has been silent longest is forgotten. About 200 bytes each.',
  }),
  groups: named(groupSchema, 100)
    .prefault({})
    .meta({ description: 'Other times for some devices. Where several match, the most specific pattern counts.' }),
})
