/** What to do about an import that Kafka does not let through: its rights and topics are those of the box it came from. */
import type { Settings } from '../../../config/settings.ts'
import type { ImportNote } from './folder.ts'

const PRINT = 'edgectl kafka setup --print'
const CREATE = '`edgectl kafka setup`'

/** `remedy`: as the relay says it of a box's own messages. */
export function remedyFor(note: ImportNote, { kafka }: Settings, remedy: string): string {
  if (remedy.includes(CREATE)) return `Run ${CREATE} on ${note.gateway}, or have somebody create what is missing.`
  return remedy.replace(PRINT, [PRINT, '--import-for', note.gateway, ...elsewhere(note, kafka)].join(' '))
}

/** What this box's configuration does not say: its own names are usually those of the whole fleet. */
function elsewhere({ prefix, topic, allowedTopics }: ImportNote, kafka: Settings['kafka']): readonly string[] {
  const topics = allowedTopics.length > 0 ? allowedTopics : topic === undefined ? [] : [topic]
  const known = new Set(kafka?.allowedTopics)
  return [
    ...(prefix === kafka?.prefix ? [] : ['--prefix', prefix]),
    ...(topics.every((name) => known.has(name)) ? [] : ['--topic', ...topics]),
  ]
}
