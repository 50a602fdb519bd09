/** What the daemon is doing with Kafka, what that means for the messages, and what to do: one paragraph. Pure. */
import { size } from './cli/text.ts'
import { duration } from './health.ts'
import type { RelayPhase } from './relay/state.ts'
import type { StatusDocument } from './status.ts'

export interface WhyKafkaDocument {
  readonly schema: 1
  readonly running: boolean
  readonly sentence: string
  /** Why nothing flows; absent while it does. */
  readonly reason?: string
  readonly remedy?: string
  readonly phase?: string
  readonly since?: string
  readonly lastProgressAgeSeconds?: number
  readonly buffered: number
  readonly usedBytes: number
  readonly maxBytes?: number
  readonly fullInSeconds?: number
}

/** Phases of the relay as a person would say them. */
const PHASES: Readonly<Record<RelayPhase, string>> = {
  idle: 'all is sent, and it waits for the next message',
  holding: 'it holds back on purpose',
  opening: 'it logs in at Kafka',
  'reading-back': 'it asks Kafka what had arrived before',
  ready: 'it is about to send',
  sending: 'it sends',
  recording: 'it takes down what Kafka has confirmed',
  'backing-off': 'it waits a moment before it tries again',
  fenced: 'another gateway with the same id sends in its place',
  alarmed: 'it tries again each time after a while, but somebody must mend this',
  stopped: 'the relay has stopped',
}

export function whyKafka(status: StatusDocument): WhyKafkaDocument {
  const { kafka, buffer, verdict } = status
  const { state, reason, remedy = verdict.remedy, since, lastProgressAgeSeconds } = kafka
  const doing = PHASES[state as RelayPhase]
  const parts = [
    reason === undefined ? `Kafka: ${doing}` : `Kafka: ${reason}; ${doing}`,
    `so for ${duration(Date.parse(status.at) - Date.parse(since))}, since ${since.slice(0, 16).replace('T', ' ')} UTC`,
    kafka.transactions === 0
      ? 'Kafka has confirmed nothing since the start of the daemon'
      : `last confirmed by Kafka ${duration(lastProgressAgeSeconds * 1_000)} ago, ${kafka.transactions} transactions since the start`,
  ]
  const sentences = [
    `${parts.join(', ')}.`,
    meaning(status),
    ...(remedy === undefined || reason === undefined ? [] : [`What to do: ${sentenceOf(remedy)}`]),
  ]
  return {
    schema: 1,
    running: true,
    sentence: sentences.join(' '),
    ...(reason !== undefined && { reason }),
    ...(remedy !== undefined && reason !== undefined && { remedy }),
    phase: state,
    since,
    lastProgressAgeSeconds,
    buffered: waiting(status.lanes),
    usedBytes: buffer.usedBytes,
    maxBytes: buffer.maxBytes,
    ...(buffer.fullInSeconds !== undefined && { fullInSeconds: buffer.fullInSeconds }),
  }
}

/** Of devices: the gateway's own records are nothing that anybody misses. */
function waiting(lanes: Readonly<Record<string, { readonly messages: number }>>): number {
  return Object.entries(lanes).reduce((sum, [lane, { messages }]) => (lane === 'internal' ? sum : sum + messages), 0)
}

function meaning({ buffer, kafka, lanes, whenFull }: StatusDocument): string {
  const messages = waiting(lanes)
  const room = `${size(buffer.usedBytes)} of ${size(buffer.maxBytes)}`
  if (messages === 0) return `Nothing waits; the buffer holds ${room}.`
  const waits = `${messages} messages wait in the buffer (${room}), and none of them is lost`
  if (buffer.blockedReason !== undefined) return `${waits}; ${buffer.blockedReason}, so devices wait with theirs.`
  if (buffer.fullInSeconds === undefined) return `${waits}${kafka.reason === undefined ? '; it is getting less' : ''}.`
  const drops = Object.values(whenFull).includes('drop-oldest')
    ? 'then lanes with drop-oldest lose their oldest, and the others let devices wait'
    : 'then devices wait'
  return `${waits}; at this rate it is full in ${duration(buffer.fullInSeconds * 1_000)}, ${drops}.`
}

/** From the files of a daemon that is down, or does not answer. */
export function whyKafkaStopped(stopped: {
  readonly silent?: boolean
  readonly usedBytes: number
  readonly maxBytes?: number
  readonly lanes: Readonly<Record<string, { readonly messages: number; readonly oldestAgeSeconds?: number }>>
}): WhyKafkaDocument {
  const { silent = false, usedBytes, maxBytes, lanes } = stopped
  const buffered = waiting(lanes)
  const oldest = Math.max(0, ...Object.values(lanes).map(({ oldestAgeSeconds = 0 }) => oldestAgeSeconds))
  const age = buffered === 0 ? '' : `, the oldest from ${duration(oldest * 1_000)} ago`
  const state = silent ? 'the daemon runs, and does not answer' : 'the daemon is not running, so nothing is sent and devices are not heard'
  const remedy = silent
    ? 'systemctl restart edge-gateway; what is buffered stays'
    : 'systemctl start edge-gateway; what is buffered is then sent'
  const sentence = `Kafka: ${state}. ${buffered} messages wait in the buffer (${size(usedBytes)}${age}), and none of them is lost. What to do: ${sentenceOf(remedy)}`
  return { schema: 1, running: silent, sentence, reason: state, remedy, buffered, usedBytes, ...(maxBytes !== undefined && { maxBytes }) }
}

function sentenceOf(text: string): string {
  return text.endsWith('.') ? text : `${text}.`
}
