/**
 * Topic patterns with named parts: which device and which stream a topic speaks of.
 *
 * `devices/{device}/logs/{stream}`: `{name}` is one level, kept under its name; `+` is one level, not kept;
 * `{name...}` or `#`, at the end only, is what remains (the parent level included, as in MQTT 5 section 4.7.1.2).
 * A part fills its level: MQTT has no wildcard within a level, so a filter could not subscribe to it.
 */
import { GatewayError } from '../errors.ts'

/** In UTF-16 units. Device, stream and parts are keys of buckets and of the ledger: their length is a memory limit. */
const MAX_PART_LENGTH = 256
const MAX_TOPIC_LENGTH = 1024

export interface TopicSettings {
  /** The key under `mqtt.topics`. */
  readonly name: string
  readonly pattern: string
}

/** What a topic says. */
export interface TopicMeaning {
  readonly device: string
  /** Value of `{stream}`, or the pattern's name where that is absent or empty. */
  readonly stream: string
  /** The other named parts in pattern order; absent when there are none. */
  readonly parts?: Readonly<Record<string, string>>
}

type Level =
  | { readonly kind: 'literal'; readonly text: string }
  | { readonly kind: 'one'; readonly name: string | undefined }
  | { readonly kind: 'tail'; readonly name: string | undefined }

const PART = /^\{([A-Za-z][A-Za-z0-9_]*)(\.\.\.)?\}$/
/** NUL and wildcards may not stand in a topic name (MQTT 5 sections 1.5.4, 3.3.2.1); U+FFFD is what bytes that were no UTF-8 became. */
const ILLEGAL = /[\0\uFFFD+#]/

export class TopicPattern {
  readonly name: string
  readonly pattern: string
  /** Names of the parts in order, `device` among them. */
  readonly parts: readonly string[]
  readonly #levels: readonly Level[]

  /** Throws a `rejected` GatewayError that says what to write instead. */
  constructor({ name, pattern }: TopicSettings) {
    this.name = name
    this.pattern = pattern
    this.#levels = pattern.split('/').map((text, index, all) => levelOf(this, text, index === all.length - 1))
    this.parts = this.#levels.flatMap((level) => (level.kind === 'literal' || level.name === undefined ? [] : [level.name]))
    checkWhole(this)
  }

  /** The MQTT filter that subscribes to exactly what this pattern matches (MQTT 5 section 4.7). */
  toFilter(): string {
    return this.#levels.map((level) => (level.kind === 'literal' ? level.text : level.kind === 'one' ? '+' : '#')).join('/')
  }

  /** Values in the order of `parts`; undefined when the topic does not match. */
  match(topic: string): readonly string[] | undefined {
    // A wildcard in the first level never matches `$SYS` and its like (MQTT 5 section 4.7.2).
    if (topic.charCodeAt(0) === 36 && this.#levels[0]?.kind !== 'literal') return undefined
    const values: string[] = []
    let start = 0
    for (const level of this.#levels) {
      if (level.kind === 'tail') {
        if (level.name !== undefined) values.push(topic.slice(start))
        return values
      }
      if (start > topic.length) return undefined
      const slash = topic.indexOf('/', start)
      const end = slash === -1 ? topic.length : slash
      if (level.kind === 'literal') {
        if (end - start !== level.text.length || !topic.startsWith(level.text, start)) return undefined
      } else if (level.name !== undefined) {
        values.push(topic.slice(start, end))
      }
      start = end + 1
    }
    return start > topic.length ? values : undefined
  }
}

/** All patterns of the config; the first that matches wins. */
export class TopicPatterns {
  readonly all: readonly TopicPattern[]
  readonly #readers: readonly ((values: readonly string[]) => TopicMeaning | undefined)[]

  /** Throws a `rejected` GatewayError for the first pattern that is wrong. */
  constructor(settings: readonly TopicSettings[]) {
    this.all = settings.map((one) => new TopicPattern(one))
    this.#readers = this.all.map(readerOf)
  }

  /** Undefined for a topic that no pattern matches, or that is malformed: then no later pattern is tried. */
  read(topic: string): TopicMeaning | undefined {
    if (topic.length > MAX_TOPIC_LENGTH || ILLEGAL.test(topic)) return undefined
    for (let index = 0; index < this.all.length; index++) {
      const values = this.all[index]?.match(topic)
      if (values !== undefined) return this.#readers[index]?.(values)
    }
    return undefined
  }

  /** The filters to subscribe to, without repetition. */
  toFilters(): readonly string[] {
    return [...new Set(this.all.map((pattern) => pattern.toFilter()))]
  }
}

function readerOf(pattern: TopicPattern): (values: readonly string[]) => TopicMeaning | undefined {
  const device = pattern.parts.indexOf('device')
  const stream = pattern.parts.indexOf('stream')
  const others = pattern.parts.map((name, index) => ({ name, index })).filter(({ index }) => index !== device && index !== stream)
  return (values) => {
    const id = values[device] ?? ''
    if (id === '' || values.some((value) => value.length > MAX_PART_LENGTH)) return undefined
    const named = { device: id, stream: values[stream] || pattern.name }
    if (others.length === 0) return named
    return { ...named, parts: Object.fromEntries(others.map(({ name, index }) => [name, values[index] ?? ''])) }
  }
}

function levelOf(pattern: TopicPattern, text: string, last: boolean): Level {
  if (text === '+') return { kind: 'one', name: undefined }
  if (text === '#') return tail(pattern, undefined, last)
  const part = PART.exec(text)
  if (part?.[1] !== undefined) return part[2] === undefined ? { kind: 'one', name: part[1] } : tail(pattern, part[1], last)
  if (/[{}+#\0\uFFFD]/.test(text)) {
    throw wrong(
      pattern,
      `the level "${text}" mixes a part or wildcard with other text`,
      'Let {name}, + or # fill a whole level between two slashes.',
    )
  }
  return { kind: 'literal', text }
}

function tail(pattern: TopicPattern, name: string | undefined, last: boolean): Level {
  if (!last)
    throw wrong(
      pattern,
      `"${name === undefined ? '#' : `{${name}...}`}" is not the last level`,
      'Move it to the end, or use + or {name} for one level.',
    )
  if (name === 'device') throw wrong(pattern, '{device...} covers several levels', 'Write {device}: a device is one level.')
  return { kind: 'tail', name }
}

function checkWhole(pattern: TopicPattern): void {
  if (pattern.pattern.startsWith('$share/')) {
    throw wrong(
      pattern,
      'a shared subscription spreads one device over several boxes, so its order would be void',
      'Write the topic without $share/<group>/.',
    )
  }
  if (!pattern.parts.includes('device')) {
    throw wrong(
      pattern,
      'it names no device',
      'Write {device} for the level that holds the device id, as in devices/{device}/logs/{stream}.',
    )
  }
  const repeated = pattern.parts.find((name, index) => pattern.parts.indexOf(name) !== index)
  if (repeated !== undefined)
    throw wrong(pattern, `it names {${repeated}} twice`, 'Give each part its own name, or write + for a level that is not needed.')
}

function wrong(pattern: TopicPattern, fault: string, remedy: string): GatewayError {
  return new GatewayError('rejected', `mqtt.topics.${pattern.name}.pattern "${pattern.pattern}": ${fault}.`, { remedy })
}
