/**
 * Which limits hold for a device: overrides by a glob on its name.
 *
 * `*` is any run of characters, `?` one; all else stands for itself, upper and lower case differ. The most specific
 * override wins: most literal characters, then fewest `*`, then the first by name. Not by order in the file, since a
 * merge patch can't say where in a map a new key goes.
 */
import type { Limit } from './token-bucket.ts'

interface Glob {
  readonly name: string
  readonly devices: string
}

export interface OverrideSettings {
  /** The key under `limits.overrides`. */
  readonly name: string
  /** Glob on the device id, as `cam-*`. */
  readonly devices: string
  /** What is absent comes from `perDevice`. */
  readonly messagesPerSecond?: number | undefined
  readonly bytesPerSecond?: number | undefined
  readonly burstMs?: number | undefined
}

/** Linear in the name for each `*`, without recursion: a device chooses its own name. */
export function globMatches(glob: string, name: string): boolean {
  let g = 0
  let n = 0
  let star = -1
  let resume = 0
  while (n < name.length) {
    const wanted = glob[g]
    if (wanted === '*') {
      star = g++
      resume = n
    } else if (wanted === '?' || wanted === name[n]) {
      g++
      n++
    } else if (star !== -1) {
      g = star + 1
      n = ++resume
    } else {
      return false
    }
  }
  while (glob[g] === '*') g++
  return g === glob.length
}

/** Limits by device name: class 0 is `perDevice`, the others are overrides, most specific first. */
export class LimitClasses {
  readonly limits: readonly Limit[]
  /** Of the overrides; class 0 has none. */
  readonly names: readonly (string | undefined)[]
  readonly #globs: readonly string[]

  constructor(perDevice: Limit, overrides: readonly OverrideSettings[]) {
    const sorted = [...overrides].sort(mostSpecificFirst)
    this.#globs = sorted.map((override) => override.devices)
    this.names = [undefined, ...sorted.map((override) => override.name)]
    this.limits = [
      perDevice,
      ...sorted.map((override) => ({
        messagesPerSecond: override.messagesPerSecond ?? perDevice.messagesPerSecond,
        bytesPerSecond: override.bytesPerSecond ?? perDevice.bytesPerSecond,
        burstMs: override.burstMs ?? perDevice.burstMs,
      })),
    ]
  }

  /** Index into `limits`. */
  classOf(device: string): number {
    for (let index = 0; index < this.#globs.length; index++) {
      if (globMatches(this.#globs[index] ?? '', device)) return index + 1
    }
    return 0
  }
}

/** The order in which globs are tried. */
export function mostSpecificFirst(a: Glob, b: Glob): number {
  return literals(b.devices) - literals(a.devices) || stars(a.devices) - stars(b.devices) || (a.name < b.name ? -1 : 1)
}

function literals(glob: string): number {
  return glob.replace(/[*?]/g, '').length
}

function stars(glob: string): number {
  return glob.split('*').length - 1
}
