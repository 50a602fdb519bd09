/** Topics of settings and of answers: one level may be `{device}`. Pure. */
import type { DeviceTopic } from '../../ports.ts'

const PLACE = '{device}'
const LENGTH_MAX = 512
const LEVELS_MAX = 32

/** Where the device stands in it; undefined for the topic of a group. */
export function deviceTopicOf(topic: string): DeviceTopic | undefined {
  const at = topic.indexOf(PLACE)
  return at < 0 ? undefined : { before: topic.slice(0, at), after: topic.slice(at + PLACE.length) }
}

export function topicFor(topic: string, device: string): string {
  const { before, after } = deviceTopicOf(topic) ?? { before: topic, after: '' }
  return deviceTopicOf(topic) === undefined ? topic : `${before}${device}${after}`
}

/** The device that a topic of this pattern is for; undefined when it is of another pattern. */
export function deviceIn(pattern: string, topic: string): string | undefined {
  const place = deviceTopicOf(pattern)
  if (place === undefined || topic.length <= pattern.length - PLACE.length) return undefined
  if (!topic.startsWith(place.before) || !topic.endsWith(place.after)) return undefined
  const device = topic.slice(place.before.length, topic.length - place.after.length)
  return device.includes('/') ? undefined : device
}

/** A device id can stand in a topic (MQTT 3.1.1 section 4.7): a client id may hold what a topic may not. */
export function fitsTopic(device: string): boolean {
  return device !== '' && device.length <= 256 && !/[\0+#/\uFFFD]/.test(device)
}

/** What is wrong with it and what to write instead; undefined when it is good. */
export function topicFault(topic: string): string | undefined {
  if (topic === '' || topic.length > LENGTH_MAX) return `it must have 1 to ${LENGTH_MAX} characters`
  if (/[+#]/.test(topic)) return 'a setting goes to one topic: write no wildcard, and {device} for the level that holds the device id'
  if (/[\0\uFFFD]/.test(topic)) return 'it holds a character that no topic may hold'
  if (topic.startsWith('$')) return 'topics that begin with $ belong to the broker'
  const levels = topic.split('/')
  if (levels.length > LEVELS_MAX) return `it has more than ${LEVELS_MAX} levels`
  if (levels.some((level) => /[{}]/.test(level) && level !== PLACE)) return '{device} must fill a whole level, and no other part is known'
  return levels.filter((level) => level === PLACE).length > 1 ? 'it names {device} twice' : undefined
}

/** Some topic of the pattern is matched by the filter (MQTT 5 section 4.7). */
export function meetsFilter(pattern: string, filter: string): boolean {
  const levels = pattern.split('/')
  const wanted = filter.split('/')
  for (let index = 0; ; index++) {
    const level = levels[index]
    const want = wanted[index]
    if (want === '#') return true
    if (level === undefined || want === undefined) return level === want
    if (want !== '+' && level !== PLACE && want !== level) return false
  }
}
