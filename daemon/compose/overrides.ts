/** A technician's overrides: set for a time through the control socket, ended by the clock, said in log, events and status. */
import { redact } from '../../config/redact.ts'
import { formatPath } from '../../config/problem.ts'
import { fixedKeys } from '../../config/patchable.ts'
import type { Clock } from '../clock.ts'
import type { Component } from '../component.ts'
import { GatewayError, messageOf } from '../errors.ts'
import { anchored, OVERRIDES, overridesIn, remainingMs, type Override } from '../patch/config-layers.ts'
import type { Json, Memory } from '../patch/memory.ts'
import type { Log } from '../ports.ts'
import type { LiveConfiguration } from './configuration.ts'
import { aboveOfOverride } from './layers.ts'

/** Long enough for a season of tests, short enough that nobody calls it configuration. */
export const OVERRIDE_MAX_MS = 30 * 86_400_000
const LOOK_MS = 30_000
/** Of text that is logged. */
const WORDS_MAX = 200

export interface OverrideRequest {
  readonly path: readonly string[]
  /** null takes the key away, so that its default holds. */
  readonly value: Json
  readonly forMs: number
  readonly by: string
  readonly reason: string
}

/** As people see it; secrets are hidden. */
export interface OverrideView {
  readonly key: string
  readonly value: Json
  readonly until: string
  readonly remainingSeconds: number
  readonly by: string
  readonly reason: string
}

export interface OverridesParts {
  readonly memory: Memory
  readonly clock: Clock
  readonly log: Log
  readonly configuration: LiveConfiguration
}

export class Overrides implements Component {
  readonly name = 'overrides'
  readonly #parts: OverridesParts
  #standing: readonly Override[] = []
  #cancel: (() => void) | undefined
  #stopped = false

  constructor(parts: OverridesParts) {
    this.#parts = parts
  }

  /** Binds those of an earlier boot to this one. */
  async start(): Promise<void> {
    const { memory, clock } = this.#parts
    const standing = overridesIn(await memory.read(OVERRIDES)).filter((override) => remainingMs(override, clock) > 0)
    const moved = standing.filter(({ bootId }) => bootId !== clock.bootId).map((override) => anchored(override, clock))
    if (moved.length > 0) await memory.write(Object.fromEntries(moved.map((one) => [keyOf(one), stored(one)])))
    await this.#look()
  }

  stop(): Promise<void> {
    this.#stopped = true
    this.#cancel?.()
    return Promise.resolve()
  }

  list(): readonly OverrideView[] {
    const { clock } = this.#parts
    return this.#standing.map((override) => {
      const leftMs = remainingMs(override, clock)
      return {
        key: override.key,
        value: redact(override.value, override.path.at(-1)),
        until: new Date(clock.wallMs() + leftMs).toISOString(),
        remainingSeconds: Math.round(leftMs / 1_000),
        by: override.by,
        reason: override.reason,
      }
    })
  }

  /** Rejects with `rejected` and what to do when it may not be set, or can't be taken over; nothing has changed then. */
  async set(request: OverrideRequest): Promise<void> {
    const { memory, configuration } = this.#parts
    const override = this.#made(request)
    const fixed = fixedKeys(aboveOfOverride(override).layer.patch)
    const wrong = fixed.length > 0 ? fixed.join('; ') : await configuration.checkOverride(override)
    if (wrong !== undefined) throw new GatewayError('rejected', wrong)
    const key = keyOf(override)
    const before = (await memory.read(key)).get(key)
    await memory.write({ [key]: stored(override) })
    try {
      await configuration.change('override', { override: `set ${spoken(override)}`, by: override.by, why: override.reason })
    } catch (error) {
      await memory.write({ [key]: before })
      throw new GatewayError('rejected', messageOf(error), { cause: error })
    }
    await this.#look()
  }

  /** False: there was none. Rejects when the configuration without it can't be taken over; it then goes on. */
  async clear(dotted: string, by: string): Promise<boolean> {
    const { memory, configuration } = this.#parts
    const key = `${OVERRIDES}${dotted}`
    const before = (await memory.read(key)).get(key)
    if (before === undefined) return false
    await memory.write({ [key]: undefined })
    try {
      await configuration.change('override', { override: `cleared ${dotted}`, by })
    } catch (error) {
      await memory.write({ [key]: before })
      throw new GatewayError('rejected', messageOf(error), { cause: error })
    }
    await this.#look()
    return true
  }

  #made({ path, value, forMs, by, reason }: OverrideRequest): Override {
    const { clock } = this.#parts
    if (!(forMs > 0 && forMs <= OVERRIDE_MAX_MS)) throw new GatewayError('rejected', '--for takes a time from 1s to 30d, such as 8h')
    const setMs = clock.wallMs()
    const words = { by: by.slice(0, WORDS_MAX), reason: reason.slice(0, WORDS_MAX) }
    const clocks = { setMs, untilMs: setMs + forMs, trusted: clock.wallTrusted(), bootId: clock.bootId, bootMs: clock.bootMs() }
    return { key: formatPath(path), path, value, ...words, ...clocks }
  }

  /** Ends what is over, and looks again when the next one is. */
  async #look(): Promise<void> {
    const { memory, clock, configuration } = this.#parts
    this.#cancel?.()
    const all = await memory.read(OVERRIDES)
    this.#standing = overridesIn(all).filter((override) => remainingMs(override, clock) > 0)
    const over = [...all.keys()].filter((key) => !this.#standing.some((one) => keyOf(one) === key))
    if (over.length > 0) {
      await memory.write(Object.fromEntries(over.map((key) => [key, undefined])))
      const ended = over.map((key) => key.slice(OVERRIDES.length)).join(', ')
      // What can't be taken back now is said, and goes with the next change or start: it is not remembered any more.
      await configuration.change('override', { override: `ended ${ended}` }).catch(() => undefined)
    }
    if (this.#stopped) return
    const nextMs = Math.min(LOOK_MS, ...this.#standing.map((override) => remainingMs(override, clock)))
    this.#cancel?.()
    this.#cancel = clock.after(nextMs, () => {
      this.#look().catch((error: unknown) => this.#failed(error))
    })
  }

  /** A full disk, most likely: the override holds a little longer. */
  #failed(error: unknown): void {
    this.#parts.log.error({ err: messageOf(error) }, 'overrides that are over could not be ended; trying again')
    if (!this.#stopped)
      this.#cancel = this.#parts.clock.after(LOOK_MS, () => void this.#look().catch((again: unknown) => this.#failed(again)))
  }
}

function keyOf({ key }: Override): string {
  return `${OVERRIDES}${key}`
}

function stored(override: Override): Json {
  return { ...override }
}

function spoken({ key, path, value }: Override): string {
  return `${key} = ${JSON.stringify(redact(value, path.at(-1)))}`
}
