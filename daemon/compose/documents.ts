/** Parts of answers that the daemon and the files of a stopped one give alike. */
import type { DeadLetterDocument } from '../cli/dead-letters.ts'
import type { StoredDeadLetter } from '../ports.ts'

/** `normal 5..900` for each lane that still holds something of the epoch. */
export function laneSpans(lanes: Readonly<Record<string, { readonly first: number; readonly last: number } | undefined>>): string[] {
  return Object.entries(lanes).flatMap(([lane, span]) => (span === undefined ? [] : [`${lane} ${span.first}..${span.last}`]))
}

export function letterDocument(letter: StoredDeadLetter, payload: boolean): DeadLetterDocument {
  const { envelope } = letter
  return {
    id: letter.id,
    device: envelope.device,
    topic: envelope.topic,
    lane: letter.lane,
    position: `${letter.epoch}:${letter.lane}:${letter.position}`,
    at: new Date(letter.atMs).toISOString(),
    reason: letter.reason,
    bytes: envelope.payload.length,
    ...(payload ? { payloadBase64: Buffer.from(envelope.payload).toString('base64') } : {}),
  }
}
