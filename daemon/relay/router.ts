/** Where each message may go now, in one producer's life. */
import type { EpochId, InternalRecord, Lane, Stored, TopicFacts } from '../ports.ts'
import type { Blame } from './blame.ts'
import type { Link, WrongTopic } from './link.ts'
import type { Route } from './plan.ts'
import { recordBytes } from './record.ts'
import { PARTITION_MAX_MESSAGES, type RelaySettings } from './settings.ts'
import type { Held } from './state.ts'
import type { TopicTemplate } from './topic-template.ts'
import { internalTopic } from './topics.ts'

/** Head of a record batch (KIP-98). */
const BATCH_BYTES = 61
/** Part of a topic's limit that one transaction may fill per partition: a batch is never split. */
const ROOM = 0.75

const HOLD: Route = { kind: 'hold' }

/** What must be asked before more can go. */
export interface Needs {
  readonly epochs: Set<EpochId>
  readonly topics: Set<string>
}

export class Router {
  readonly needs: Needs = { epochs: new Set(), topics: new Set() }
  /** Lanes whose next message waits for its topic, and why. */
  readonly held: Partial<Record<Lane, Held>> = {}
  readonly #seen = new Map<string, TopicFacts | WrongTopic | undefined>()
  #lastMax = { bytes: 0, messages: 0 }
  readonly #link: Link
  readonly #settings: RelaySettings
  readonly #template: TopicTemplate
  readonly #blame: Blame
  readonly #knows: (epoch: EpochId) => boolean
  readonly #freshMs: number

  /**
   * `knows`: the epoch's committed positions were read in this life. `freshMs`: facts heard before that are too old
   * to give up a record on (monotonic).
   */
  constructor(
    link: Link,
    settings: RelaySettings,
    template: TopicTemplate,
    blame: Blame,
    knows: (epoch: EpochId) => boolean,
    freshMs: number,
  ) {
    this.#link = link
    this.#settings = settings
    this.#template = template
    this.#blame = blame
    this.#knows = knows
    this.#freshMs = freshMs
  }

  route(lane: Lane, stored: Stored): Route {
    if (!this.#knows(stored.epoch)) {
      this.needs.epochs.add(stored.epoch)
      return HOLD
    }
    const against = this.#blame.reasonAgainst(lane, stored.position)
    if (against !== undefined) return { kind: 'refuse', reason: against }
    if ('internal' in stored) return this.#toTopic(lane, stored, this.#ownTopic(stored.internal), stored.internal.key)
    const choice = this.#template.choose(stored.envelope)
    if ('refused' in choice) return { kind: 'refuse', reason: choice.refused }
    return this.#toTopic(lane, stored, choice.topic, stored.envelope.device)
  }

  #ownTopic(internal: InternalRecord): string {
    return internalTopic(this.#settings, internal.destination)
  }

  /** Mostly one object for all: this runs for each record. */
  #partitionMax(topic: string, partition: number, most: number): { readonly bytes: number; readonly messages: number } {
    const { refusals } = this.#blame
    const bytes = most * ROOM * refusals.room(topic)
    const messages = Math.min(PARTITION_MAX_MESSAGES, refusals.searching ? refusals.limit({ topic, partition }) : Infinity)
    if (this.#lastMax.bytes !== bytes || this.#lastMax.messages !== messages) this.#lastMax = { bytes, messages }
    return this.#lastMax
  }

  /** One look for all records of a plan: facts must not grow old in the middle of it. */
  #factsOf(topic: string): TopicFacts | WrongTopic | undefined {
    if (this.#seen.has(topic)) return this.#seen.get(topic)
    const facts = this.#link.factsOf(topic)
    this.#seen.set(topic, facts)
    return facts
  }

  #toTopic(lane: Lane, stored: Stored, topic: string, key: string): Route {
    const facts = this.#factsOf(topic)
    if (facts === undefined) {
      this.needs.topics.add(topic)
      return HOLD
    }
    if ('wrong' in facts) {
      this.held[lane] = { reason: facts.wrong.message, remedy: facts.wrong.remedy }
      return HOLD
    }
    const bytes = recordBytes(stored, this.#settings.gatewayId)
    const most = facts.maxMessageBytes
    if (bytes + BATCH_BYTES > most) return this.#tooLarge(topic, bytes, most)
    const partition = this.#link.partitionOf(topic, key)
    return { kind: 'send', topic, partition, bytes, partitionMax: this.#partitionMax(topic, partition, most) }
  }

  /** Somebody may have raised the limit since it was read, and then tried a dead letter again. */
  #tooLarge(topic: string, bytes: number, most: number): Route {
    if (this.#link.heardMs(topic) >= this.#freshMs)
      return { kind: 'refuse', reason: `about ${bytes} bytes, and the topic "${topic}" takes ${most} (max.message.bytes)` }
    this.needs.topics.add(topic)
    return HOLD
  }
}
