/** When a device counts as silent: by group of devices, each with a glob on their ids. */
import { GatewayError } from '../errors.ts'
import { globMatches, mostSpecificFirst } from './limit-classes.ts'

export interface PresenceSettings {
  /** ms without a sign of life; `Infinity`: its silence is no news. */
  readonly silentAfterMs: number
  /** Devices that are remembered at once. */
  readonly maxDevices: number
  readonly groups: readonly PresenceGroup[]
}

export interface PresenceGroup {
  /** The key under `presence.groups`. */
  readonly name: string
  /** Glob on the device id, as `cam-*`. */
  readonly devices: string
  readonly silentAfterMs: number
}

/** Group 0 holds the devices that no group names; the others are numbered from the most specific one on. */
export class PresenceGroups {
  readonly #groups: readonly PresenceGroup[]
  readonly #silentAfterMs: readonly number[]

  /** Throws a `rejected` GatewayError for a value that can't work. */
  constructor({ silentAfterMs, groups }: PresenceSettings) {
    this.#groups = [...groups].sort(mostSpecificFirst)
    this.#silentAfterMs = [silentAfterMs, ...this.#groups.map((group) => group.silentAfterMs)]
    for (const [index, value] of this.#silentAfterMs.entries()) {
      if (value >= 1_000) continue
      const key = index === 0 ? 'presence.silentAfter' : `presence.groups.${this.nameOf(index)}.silentAfter`
      throw new GatewayError('rejected', `${key}: ${value} ms.`, { remedy: 'Write at least 10s, or off.' })
    }
  }

  groupOf(device: string): number {
    for (let index = 0; index < this.#groups.length; index++) {
      if (globMatches(this.#groups[index]?.devices ?? '', device)) return index + 1
    }
    return 0
  }

  /** Undefined for the devices that no group names. */
  nameOf(group: number): string | undefined {
    return this.#groups[group - 1]?.name
  }

  silentAfterMs(group: number): number {
    return this.#silentAfterMs[group] ?? Infinity
  }
}
