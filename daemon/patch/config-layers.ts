/**
 * What the box remembers of settings above its files: the layers of config patches, and a technician's overrides with
 * a time limit. Merged in the order of their sequences, whatever the order in which they came: merge patches do not
 * commute.
 */
import type { Clock } from '../clock.ts'
import type { Json, JsonObject } from './memory.ts'

export const LAYERS = 'layers/'
export const OVERRIDES = 'override/'

/** `layers/<sequence>-<patch>` */
export interface ConfigLayer {
  readonly patch: string
  readonly channel: string
  readonly sequence: number
  /** RFC 7396, on the settings as the file writes them. */
  readonly merge: JsonObject
  /** Flipped, and not yet committed. */
  readonly trial: boolean
  /** Layers that this one superseded, by key; they come back when it goes. */
  readonly replaced: Readonly<Record<string, Json>>
}

/** What ends by itself, as it was set. */
export interface TimeLimit {
  /** Wall clock. */
  readonly untilMs: number
  readonly setMs: number
  /** Was the wall clock to be believed when it was set? */
  readonly trusted: boolean
  readonly bootId: string
  readonly bootMs: number
}

/** `override/<dotted key>` */
export interface Override extends TimeLimit {
  /** As `formatPath` writes it. */
  readonly key: string
  readonly path: readonly string[]
  /** null takes the key away. */
  readonly value: Json
  readonly by: string
  readonly reason: string
}

/** Twelve digits: keys sort like numbers. */
export function layerKey(layer: Pick<ConfigLayer, 'patch' | 'sequence'>): string {
  return `${LAYERS}${String(layer.sequence).padStart(12, '0')}-${layer.patch}`
}

/** In the order of merging. What is no layer is left out: it was written by another version. */
export function layersIn(memory: ReadonlyMap<string, Json>): readonly ConfigLayer[] {
  return [...memory].flatMap(([key, value]) => (key.startsWith(LAYERS) && isLayer(value) ? [value] : [])).sort(inOrder)
}

export function overridesIn(memory: ReadonlyMap<string, Json>): readonly Override[] {
  return [...memory].flatMap(([key, value]) => (key.startsWith(OVERRIDES) && isOverride(value) ? [value] : []))
}

/** `layers` with one more, in its place by sequence; it stands for an older one of the same patch. */
export function withLayer(layers: readonly ConfigLayer[], layer: ConfigLayer): readonly ConfigLayer[] {
  return [...layers.filter(({ patch }) => patch !== layer.patch), layer].sort(inOrder)
}

function inOrder(a: ConfigLayer, b: ConfigLayer): number {
  return a.sequence - b.sequence || (a.patch < b.patch ? -1 : 1)
}

/**
 * How long it still holds, ms; 0 when it has ended. In the boot that set it the boot clock alone counts, so a step of
 * the wall clock neither ends nor extends it. After a reboot only a wall clock can tell, both then and now; without
 * one that is to be believed, or when it went back, the override ends: it is a person's, who can set it again, and a
 * limit that was lifted for an afternoon must not stay lifted for ever.
 */
export function remainingMs(override: TimeLimit, clock: Pick<Clock, 'bootId' | 'bootMs' | 'wallMs' | 'wallTrusted'>): number {
  const lengthMs = override.untilMs - override.setMs
  if (override.bootId === clock.bootId) return Math.max(0, lengthMs - (clock.bootMs() - override.bootMs))
  const nowMs = clock.wallMs()
  if (!override.trusted || !clock.wallTrusted() || nowMs < override.setMs) return 0
  return Math.max(0, override.untilMs - nowMs)
}

/** Bound to this boot, so that the clock of the next one can't give it more than is left. */
export function anchored(override: Override, clock: Pick<Clock, 'bootId' | 'bootMs' | 'wallMs'>): Override {
  if (override.bootId === clock.bootId) return override
  return { ...override, setMs: clock.wallMs(), bootId: clock.bootId, bootMs: clock.bootMs() }
}

function isLayer(value: Json): value is ConfigLayer & JsonObject {
  return isMap(value) && typeof value['patch'] === 'string' && Number.isSafeInteger(value['sequence']) && isMap(value['merge'])
}

function isOverride(value: Json): value is Override & JsonObject {
  const numbers = ['untilMs', 'setMs', 'bootMs'] as const
  return isMap(value) && Array.isArray(value['path']) && 'value' in value && numbers.every((name) => typeof value[name] === 'number')
}

function isMap(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
