/**
 * The id that a device gave its message, by which a redelivery is known from a new message.
 *
 * A wrong "seen before" loses a message, a missed one only repeats it. So whatever can't be told apart for certain has no
 * id: a number beyond 2^53 (two of them are one double), text that was no valid Unicode.
 */
import { GatewayError } from '../errors.ts'
import type { Delivery } from '../ports.ts'
import type { JsonPayload } from './payload-json.ts'
import { parsePointer } from './payload-json.ts'
import type { TopicMeaning, TopicPatterns } from './topic-pattern.ts'

/** 16 bytes of a cryptographic hash of the text's UTF-8: a device must not find two ids that fall together. */
export type IdHash = (text: string) => Uint8Array

/** Undefined: this message has no id. */
export type MessageIdReader = (delivery: Delivery, meaning: TopicMeaning, payload: JsonPayload) => Uint8Array | undefined

type IdReader = (delivery: Delivery, meaning: TopicMeaning, payload: JsonPayload) => unknown

const REMEDY = 'Write none, json:/id, topic:{part} with a part of a topic pattern, or user-property:name.'

/** `from` as in `buffer.dedupe.from`; undefined for `none`. Throws a `rejected` GatewayError. */
export function messageIdReader(from: string, topics: TopicPatterns, hash: IdHash): MessageIdReader | undefined {
  if (from === 'none') return undefined
  const read = readerOf(from, topics)
  return (delivery, meaning, payload) => {
    const id = textOf(read(delivery, meaning, payload))
    // A device holds no NUL, so the parts can't be confused.
    return id === undefined ? undefined : hash(`${meaning.device}\0${id}`)
  }
}

function readerOf(from: string, topics: TopicPatterns): IdReader {
  if (from.startsWith('json:')) {
    const pointer = parsePointer(from.slice(5), 'buffer.dedupe.from')
    return (_delivery, _meaning, payload) => payload.at(pointer)
  }
  const part = /^topic:\{(\w+)\}$/.exec(from)?.[1]
  if (part !== undefined) return topicReader(part, topics)
  const property = /^user-property:(.+)$/.exec(from)?.[1]
  if (property !== undefined) return (delivery) => delivery.userProperties?.find(([name]) => name === property)?.[1]
  throw new GatewayError('rejected', `buffer.dedupe.from: "${from}" is not known.`, { remedy: REMEDY })
}

function topicReader(part: string, topics: TopicPatterns): IdReader {
  if (part === 'device' || part === 'stream') {
    throw new GatewayError('rejected', `buffer.dedupe.from: {${part}} is the same for many messages.`, {
      remedy: 'Name the part that holds the message id.',
    })
  }
  if (!topics.all.some((pattern) => pattern.parts.includes(part))) {
    throw new GatewayError('rejected', `buffer.dedupe.from: no pattern of mqtt.topics has a part {${part}}.`, { remedy: REMEDY })
  }
  return (_delivery, meaning) => meaning.parts?.[part]
}

function textOf(id: unknown): string | undefined {
  if (typeof id === 'number') return Number.isSafeInteger(id) ? `n${id}` : undefined
  if (typeof id !== 'string' || id === '' || id.includes('\uFFFD') || !id.isWellFormed()) return undefined
  return `s${id}`
}
