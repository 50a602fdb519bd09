/** What a device patch must fulfil on this box. Pure. */
import type { DevicePatch } from '../document.ts'
import type { DeviceLayer } from './device-layers.ts'
import { deviceTopicOf, meetsFilter, topicFault } from './device-topics.ts'

const PAYLOAD_MAX = 65_536
const LAYERS_MAX = 256
const LAYERS_BYTES_MAX = 4 * 1024 * 1024

export interface Box {
  readonly sources: readonly string[]
  readonly logFilters: readonly string[]
  readonly layers: readonly DeviceLayer[]
}

/** What is wrong, and what to write instead; undefined when nothing is. */
export function faultOf(patch: DevicePatch, box: Box): string | undefined {
  const { source, topic, devices } = patch.spec
  if (box.sources.length === 0) return 'this box has no MQTT listener or connection'
  if (source !== undefined && !box.sources.includes(source)) {
    return `spec.source "${source}" is no listener or connection of this box, which has ${box.sources.join(', ')}`
  }
  if (devices === '') return 'spec.devices is empty: write a pattern of device ids, or "*" for all'
  const fault = topicFault(topic)
  if (fault !== undefined) return `spec.topic "${topic}": ${fault}`
  return loopFault('spec.topic', topic, box) ?? answerFault(patch, box) ?? sizeFault(patch, box)
}

/** Settings would come back as log messages, and log messages be taken for answers: nothing may be both. */
function loopFault(name: string, topic: string, { logFilters }: Box): string | undefined {
  const filter = logFilters.find((one) => meetsFilter(topic, one))
  return filter === undefined
    ? undefined
    : `${name} "${topic}" lies within ${filter} of mqtt.topics, where log messages come: choose a topic outside`
}

function answerFault({ spec }: DevicePatch, box: Box): string | undefined {
  const { acknowledge, topic } = spec
  if (acknowledge === undefined) return undefined
  const name = 'spec.acknowledge.topic'
  const fault = topicFault(acknowledge.topic)
  if (fault !== undefined) return `${name} "${acknowledge.topic}": ${fault}`
  if (deviceTopicOf(acknowledge.topic) === undefined) return `${name} must hold {device}, or nobody knows who answers`
  const isSame = acknowledge.topic === topic || meetsFilter(topic, acknowledge.topic.replace('{device}', '+'))
  if (isSame) return `${name} covers spec.topic: the settings would be taken for answers`
  return loopFault(name, acknowledge.topic, box)
}

function sizeFault({ spec }: DevicePatch, { layers }: Box): string | undefined {
  const bytes = Buffer.byteLength(JSON.stringify(spec.payload))
  if (bytes > PAYLOAD_MAX) return `spec.payload has ${bytes} bytes, ${PAYLOAD_MAX} are allowed`
  if (layers.length >= LAYERS_MAX) return `${layers.length} device patches are in force here, which is the most: take old ones back`
  const all = layers.reduce((sum, { payload }) => sum + payload.length, bytes)
  return all > LAYERS_BYTES_MAX ? `the settings in force here would have ${all} bytes, ${LAYERS_BYTES_MAX} are allowed` : undefined
}
