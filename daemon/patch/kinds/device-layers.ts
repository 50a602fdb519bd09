/**
 * The desired settings: one layer for each device patch in force. What a topic is to hold is the youngest layer that
 * speaks of it, so that taking one back leaves the others as they are. Pure, but for the names of keys.
 */
import type { Json, JsonObject } from '../memory.ts'
import { deviceIn } from './device-topics.ts'

export const SETTINGS = 'device-settings/'

/** A layer as it stands in the memory, and the plan of its patch. */
export interface DeviceLayer {
  readonly patch: string
  /** With `{device}`, or of a group. */
  readonly topic: string
  /** Glob of device ids. */
  readonly devices: string
  /** `null`: all sources. */
  readonly source: string | null
  /** JSON text, as devices get it. */
  readonly payload: string
  readonly acknowledge: { readonly topic: string; readonly deadlineMs: number; readonly minDone: number } | null
  /** Rises with each patch that comes to this box. */
  readonly order: number
  readonly [key: string]: Json
}

export function layerKeyOf({ topic, order, patch }: DeviceLayer): string {
  return `${SETTINGS}${encodeURIComponent(topic)}/${String(order).padStart(12, '0')}-${patch}`
}

/** Undefined when the record is none of ours. */
export function layerOf(stored: Json): DeviceLayer | undefined {
  const isObject = typeof stored === 'object' && stored !== null && !Array.isArray(stored)
  if (!isObject) return undefined
  const { patch, topic, devices, payload, order } = stored as JsonObject
  const isLayer = [patch, topic, devices, payload].every((one) => typeof one === 'string') && typeof order === 'number'
  return isLayer ? (stored as unknown as DeviceLayer) : undefined
}

/** Oldest first. */
export class DeviceLayers {
  readonly all: readonly DeviceLayer[]
  readonly #matches: (glob: string, device: string) => boolean

  constructor(all: readonly DeviceLayer[], matches: (glob: string, device: string) => boolean) {
    this.all = [...all].sort((a, b) => a.order - b.order)
    this.#matches = matches
  }

  of(source: string): readonly DeviceLayer[] {
    return this.all.filter((layer) => layer.source === null || layer.source === source)
  }

  isFor(layer: DeviceLayer, device: string): boolean {
    return this.#matches(layer.devices, device)
  }

  /** What this topic is to hold at this source; undefined: nothing. */
  wanted(source: string, topic: string): DeviceLayer | undefined {
    return this.of(source).findLast((layer) => {
      if (layer.topic === topic) return true
      const device = deviceIn(layer.topic, topic)
      return device !== undefined && this.isFor(layer, device)
    })
  }

  /**
   * Older layers that can never be seen again when `layer` is in force for good: of the same topic, devices and source.
   * The youngest of them is kept, since taking `layer` back needs it.
   */
  coveredBy(layer: DeviceLayer): readonly DeviceLayer[] {
    const covered = this.all.filter(
      (one) => one.order < layer.order && one.topic === layer.topic && one.devices === layer.devices && one.source === layer.source,
    )
    return covered.slice(0, -1)
  }
}
