/**
 * Which topic a message goes to: a plain name, or a template of topic parts (`logs.{stream}`) whose results are
 * confined to an allow-list. A device must not be able to create, or write to, a topic by its choice of words.
 */
import { GatewayError } from '../errors.ts'
import type { Envelope } from '../ports.ts'

export type TopicChoice = { readonly topic: string } | { readonly refused: string }

/** Kafka's rule: 1 to 249 of these characters, and neither "." nor "..". */
const TOPIC_NAME = /^(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}$/
const PLACE = /\{([a-z][A-Za-z0-9_]*)\}/
/** Results remembered; a device that invents names can't fill the memory. */
const MEMORY_MAX = 1_000

export class TopicTemplate {
  readonly #pieces: readonly string[]
  readonly #names: readonly string[]
  readonly #allowed: ReadonlySet<string>
  readonly #fixed: TopicChoice | undefined
  readonly #memory = new Map<string, TopicChoice>()

  /** Throws a `GatewayError` that says what to write instead. */
  constructor(template: string, allowedTopics: readonly string[]) {
    const split = template.split(PLACE)
    this.#pieces = split.filter((_, index) => index % 2 === 0)
    this.#names = split.filter((_, index) => index % 2 === 1)
    this.#allowed = new Set(allowedTopics)
    this.#fixed = this.#names.length === 0 ? { topic: template } : undefined
    check(template, this.#pieces, this.#fixed === undefined, allowedTopics)
  }

  /** The one topic of a plain name; `undefined` for a template. */
  get only(): string | undefined {
    return this.#fixed !== undefined && 'topic' in this.#fixed ? this.#fixed.topic : undefined
  }

  choose(envelope: Envelope): TopicChoice {
    if (this.#fixed !== undefined) return this.#fixed
    const name = this.#fill(envelope)
    if (typeof name !== 'string') return name
    return this.#memory.get(name) ?? this.#judge(name)
  }

  #fill(envelope: Envelope): string | { readonly refused: string } {
    let name = this.#pieces[0] ?? ''
    for (const [index, part] of this.#names.entries()) {
      const value = partOf(envelope, part)
      if (value === undefined) return { refused: `the topic "${envelope.topic}" has no part {${part}}, which kafka.topic needs` }
      name += value + (this.#pieces[index + 1] ?? '')
    }
    return name
  }

  #judge(name: string): TopicChoice {
    const choice = this.#allowed.has(name)
      ? { topic: name }
      : { refused: `the Kafka topic "${name.slice(0, 249)}" is not in kafka.allowedTopics` }
    if (this.#memory.size >= MEMORY_MAX) this.#memory.clear()
    this.#memory.set(name, choice)
    return choice
  }
}

function partOf(envelope: Envelope, name: string): string | undefined {
  if (name === 'device') return envelope.device
  if (name === 'stream') return envelope.stream
  return envelope.parts?.[name]
}

function check(template: string, pieces: readonly string[], isTemplate: boolean, allowedTopics: readonly string[]): void {
  if (pieces.some((piece) => /[{}]/.test(piece))) {
    throw new GatewayError('fatal', `kafka.topic "${template}" has a brace that closes no part`, {
      remedy: 'write for example logs.{stream}',
    })
  }
  const wrong = (isTemplate ? allowedTopics : [template]).find((name) => !TOPIC_NAME.test(name))
  if (wrong !== undefined) {
    throw new GatewayError('fatal', `"${wrong}" is no name of a Kafka topic`, { remedy: 'write 1 to 249 letters, digits, ".", "_" or "-"' })
  }
  if (isTemplate && allowedTopics.length === 0) {
    throw new GatewayError('fatal', `kafka.topic "${template}" is a template, and kafka.allowedTopics is empty`, {
      remedy: 'list the topics it may lead to in kafka.allowedTopics',
    })
  }
}
