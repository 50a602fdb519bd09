import { GatewayError } from '../../daemon/errors.ts'
import type { DeviceSetting } from '../../daemon/ports.ts'

interface Node {
  setting: DeviceSetting | undefined
  readonly below: Map<string, Node>
}

/** 20,000 devices with two settings each, and some room. Payloads are mostly shared between devices. */
const MESSAGES_MAX = 50_000
const BYTES_MAX = 64 * 1024 * 1024

/** Retained settings of a listener by topic level, so that a filter visits only what can match (3.1.1 section 4.7). */
export class RetainedTree {
  readonly #root: Node = node()
  #count = 0
  #bytes = 0

  get count(): number {
    return this.#count
  }

  get(topic: string): DeviceSetting | undefined {
    let at: Node | undefined = this.#root
    for (const level of topic.split('/')) at = at?.below.get(level)
    return at?.setting
  }

  /** Throws `saturated`, and keeps what was there, when there is no room. */
  set(setting: DeviceSetting): void {
    const old = this.get(setting.topic)
    const bytes = this.#bytes + costOf(setting) - costOf(old)
    const count = this.#count + (old === undefined ? 1 : 0)
    if (count > MESSAGES_MAX || bytes > BYTES_MAX) {
      throw new GatewayError('saturated', `there is no room for more settings of devices: ${MESSAGES_MAX} messages or ${BYTES_MAX} bytes`, {
        remedy: 'Use one topic for a group of devices instead of one for each, or take old device patches back.',
      })
    }
    let at = this.#root
    for (const level of setting.topic.split('/')) {
      const next = at.below.get(level) ?? node()
      at.below.set(level, next)
      at = next
    }
    at.setting = setting
    this.#bytes = bytes
    this.#count = count
  }

  delete(topic: string): void {
    const levels = topic.split('/')
    const path: Node[] = [this.#root]
    for (const level of levels) {
      const next = path.at(-1)?.below.get(level)
      if (next === undefined) return
      path.push(next)
    }
    const last = path.at(-1)
    if (last?.setting === undefined) return
    this.#bytes -= costOf(last.setting)
    this.#count--
    last.setting = undefined
    for (let depth = levels.length; depth > 0; depth--) {
      const at = path[depth]
      if (at === undefined || at.setting !== undefined || at.below.size > 0) return
      path[depth - 1]?.below.delete(levels[depth - 1] ?? '')
    }
  }

  /** All settings that a filter matches. */
  *matching(filter: string): Generator<DeviceSetting> {
    yield* descend(this.#root, filter.split('/'), 0)
  }
}

function* descend(at: Node, levels: readonly string[], depth: number): Generator<DeviceSetting> {
  const level = levels[depth]
  if (level === undefined) {
    if (at.setting !== undefined) yield at.setting
  } else if (level === '#') yield* everything(at)
  else if (level === '+') for (const next of at.below.values()) yield* descend(next, levels, depth + 1)
  else {
    const next = at.below.get(level)
    if (next !== undefined) yield* descend(next, levels, depth + 1)
  }
}

function* everything(at: Node): Generator<DeviceSetting> {
  if (at.setting !== undefined) yield at.setting
  for (const next of at.below.values()) yield* everything(next)
}

function node(): Node {
  return { setting: undefined, below: new Map() }
}

function costOf(setting: DeviceSetting | undefined): number {
  return setting === undefined ? 0 : setting.topic.length + setting.payload.length
}
