import { autoMaxBytes } from '../schema/buffer.ts'
import type { Finding } from '../issues.ts'
import type { Config } from '../schema.ts'
import { formatSize } from '../units.ts'
import { type Relation, relation, wrong } from './relation.ts'

/** `diskBytes` is the size of the disk that holds the data folder; undefined when unknown. */
export function bufferRelations(diskBytes: number | undefined): readonly Relation[] {
  return [
    relation(['buffer'], ({ buffer }) => fitsTheDisk(buffer, diskBytes)),
    relation(['buffer'], ({ buffer }) => weights(buffer)),
    relation(['buffer', 'mqtt'], dedupePart),
  ]
}

function* fitsTheDisk(buffer: Config['buffer'], diskBytes: number | undefined): Iterable<Finding> {
  const { maxBytes, commit } = buffer
  if (maxBytes !== 'auto' && maxBytes < 4 * commit.maxBytes) {
    yield wrong(
      ['buffer', 'maxBytes'],
      `${formatSize(maxBytes)} is less than four commits of buffer.commit.maxBytes; write at least ${formatSize(4 * commit.maxBytes)}, or smaller commits`,
    )
  }
  if (diskBytes === undefined) return
  if (buffer.minFreeBytes >= diskBytes) {
    yield wrong(
      ['buffer', 'minFreeBytes'],
      `the disk has only ${approximate(diskBytes)}, so that the buffer could never take anything; write at most ${approximate(diskBytes / 10)}`,
    )
  } else if (maxBytes !== 'auto' && maxBytes + buffer.minFreeBytes > diskBytes) {
    yield wrong(
      ['buffer', 'maxBytes'],
      `together with buffer.minFreeBytes that is more than the disk has (${approximate(diskBytes)}); write at most ${approximate(diskBytes - buffer.minFreeBytes)}, or auto (here ${approximate(autoMaxBytes(diskBytes))})`,
    )
  }
}

/** Rounded down, so that what is advised fits. */
function approximate(bytes: number): string {
  const unit = bytes >= 10 * 2 ** 30 ? 2 ** 30 : 2 ** 20
  return `${Math.floor(bytes / unit)}${unit === 2 ** 30 ? 'GiB' : 'MiB'}`
}

function* weights({ lanes }: Config['buffer']): Iterable<Finding> {
  if (Object.values(lanes).every(({ weight }) => weight === 0))
    yield wrong(['buffer', 'lanes'], 'all weights are 0; write at least 1 for one lane')
}

function* dedupePart({ buffer, mqtt }: Pick<Config, 'buffer' | 'mqtt'>): Iterable<Finding> {
  const { from } = buffer.dedupe
  const path = ['buffer', 'dedupe', 'from']
  if (from.kind === 'topic') {
    const parts = Object.values(mqtt.topics).flatMap((topic) => topic.pattern.parts)
    if (from.part === 'device' || from.part === 'stream')
      yield wrong(path, `{${from.part}} is the same for many messages; write the part that holds the message id`)
    else if (!parts.includes(from.part))
      yield wrong(path, `no topic pattern has a part {${from.part}}; add a level {${from.part}} to one, or write json:/id`)
  }
  const speaks5 = Object.values(mqtt.connect ?? {}).some((connection) => connection.protocolVersion === 5)
  if (from.kind === 'user-property' && !speaks5) {
    yield wrong(
      path,
      'only MQTT 5 has user properties, and no mqtt.connect entry speaks it (a listener speaks 3.1.1); write json:/id or topic:{part}',
    )
  }
}
