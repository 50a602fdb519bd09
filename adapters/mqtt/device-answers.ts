import { messageOf } from '../../daemon/errors.ts'
import type { Delivery, DeviceAnswer, DeviceTopic } from '../../daemon/ports.ts'

type Take = (answer: DeviceAnswer) => Promise<void>

/** An answer is some words; more is not looked at. */
const ANSWER_BYTES_MAX = 4_096

/** Complains of an answer that was not taken; bounded by the caller. */
export type Complain = (fields: object, message: string) => void

/**
 * What devices answer to their settings. One rule keeps it apart from the log path: **a PUBLISH on a topic that is
 * listened for is an answer, and no log message**. It is never offered, so it stands in no ledger; it is counted here.
 * (A patch whose answers would come on a topic of `mqtt.topics` is refused before anything is listened for.)
 */
export class DeviceAnswers {
  #taken = 0
  #refused = 0
  readonly #source: string
  readonly #complain: Complain
  readonly #listeners = new Map<string, { readonly topic: DeviceTopic; readonly takes: Set<Take> }>()

  constructor(source: string, complain: Complain) {
    this.#source = source
    this.#complain = complain
  }

  /** True for the first listener of this topic. */
  add(topic: DeviceTopic, take: Take): boolean {
    const key = filterOf(topic)
    const known = this.#listeners.get(key)
    known?.takes.add(take)
    if (known === undefined) this.#listeners.set(key, { topic, takes: new Set([take]) })
    return known === undefined
  }

  /** True when nobody listens for this topic any more. */
  remove(topic: DeviceTopic, take: Take): boolean {
    const key = filterOf(topic)
    const takes = this.#listeners.get(key)?.takes
    if (takes?.delete(take) !== true || takes.size > 0) return false
    return this.#listeners.delete(key)
  }

  counts(): { readonly taken: number; readonly refused: number } {
    return { taken: this.#taken, refused: this.#refused }
  }

  filters(): readonly string[] {
    return [...this.#listeners.keys()]
  }

  /** True when it is an answer: the delivery is settled from here, once every listener has taken it. */
  takes(delivery: Delivery): boolean {
    for (const { topic, takes } of this.#listeners.values()) {
      const device = deviceIn(topic, delivery.topic)
      if (device === undefined) continue
      this.#take(delivery, device, [...takes])
      return true
    }
    return false
  }

  #take(delivery: Delivery, device: string, takes: readonly Take[]): void {
    const fault = faultOf(delivery, device)
    if (fault !== undefined) {
      this.#refused++
      this.#complain({ device: delivery.identity ?? device, topic: delivery.topic }, `an answer to settings is not taken: ${fault}`)
      return delivery.settle()
    }
    this.#taken++
    const answer = { source: this.#source, device, payload: delivery.payload }
    Promise.all(takes.map((take) => take(answer))).then(
      () => delivery.settle(),
      (error: unknown) =>
        this.#complain({ device }, `an answer to settings could not be kept, and is not acknowledged: ${messageOf(error)}`),
    )
  }
}

/** The MQTT filter that brings the answers of all devices. */
function filterOf({ before, after }: DeviceTopic): string {
  return `${before}+${after}`
}

function deviceIn({ before, after }: DeviceTopic, topic: string): string | undefined {
  if (!topic.startsWith(before) || !topic.endsWith(after) || topic.length <= before.length + after.length) return undefined
  const device = topic.slice(before.length, topic.length - after.length)
  return device.includes('/') ? undefined : device
}

function faultOf(delivery: Delivery, device: string): string | undefined {
  const { identity, refused, payload } = delivery
  if (identity !== undefined && identity !== device && delivery.speaksForOthers !== true) return 'it names another device than its sender'
  // A retained answer is an answer; `mqtt.connect` marks it, since a retained log message may be an old one.
  if (refused !== undefined && refused.reason !== 'retained') return `its topic or size is refused (${refused.reason})`
  return payload.length > ANSWER_BYTES_MAX ? `it has ${payload.length} bytes, ${ANSWER_BYTES_MAX} are read` : undefined
}
