/** Why a device's messages do not arrive, or how it stands, in one paragraph with the remedy. */
import type { DeviceDocument, DeviceWhyDocument, RefusalDocument } from '../cli/device-documents.ts'
import { duration } from '../health.ts'

export interface Stranger {
  readonly device: string
  readonly similar: readonly string[]
  readonly refusals: readonly RefusalDocument[]
  /** The latest of all, where none names this device. */
  readonly others: readonly RefusalDocument[]
  readonly patterns: readonly string[]
  /** Words on sources that can't hear anybody now. */
  readonly deaf: readonly string[]
}

const SAID_MAX = 3

/** Nobody by that name was seen. */
export function whyStranger({ device, similar, refusals, others, patterns, deaf }: Stranger): DeviceWhyDocument {
  const parts = [`${device} was never seen here`]
  let remedy = `check that it publishes to ${patterns.join(' or ')}, to this box's address and port`
  if (refusals.length > 0) {
    parts.push(...refusals.slice(0, SAID_MAX).map(refusalWords))
    remedy = remedyFor(refusals[0]) ?? remedy
  } else {
    if (deaf.length > 0) parts.push(...deaf)
    if (similar.length > 0) parts.push(`known is ${similar.slice(0, SAID_MAX).join(', ')}: a different spelling is another device`)
    else if (others.length > 0) parts.push(`others were turned away lately: ${refusalWords(others[0])}`)
  }
  const known = similar.length === 0 ? {} : { similar }
  return { schema: 1, running: true, device, state: 'never-seen', sentence: sentenceOf(parts), remedy, ...known, refusals }
}

/** A device that is known. */
export function whyDevice(document: DeviceDocument, deaf: readonly string[]): DeviceWhyDocument {
  const { device, state, refusals } = document
  const findings = [limits(document), letters(document), refused(document), gone(document, deaf)].filter((one) => one !== undefined)
  const remedy = findings.find((one) => one.remedy !== undefined)?.remedy
  const parts = [`${device} is ${state}: ${seenWords(document)}`, ...findings.map(({ words }) => words)]
  if (findings.length === 0) parts.push('nothing stands in the way of its messages')
  return {
    schema: 1,
    running: document.running,
    device,
    state,
    sentence: sentenceOf(parts),
    ...(remedy === undefined ? {} : { remedy }),
    refusals,
  }
}

interface Finding {
  readonly words: string
  readonly remedy?: string | undefined
}

function seenWords({ lastSeenSeconds, connected, connectedFor, disconnected, source, messages, sinceStart }: DeviceDocument): string {
  const link = connected
    ? `connected to ${source ?? 'a listener'} for ${duration((connectedFor ?? 0) * 1_000)}`
    : disconnected === undefined
      ? `heard over ${source ?? 'an unknown source'}`
      : `its connection ${ENDED[disconnected.how] ?? 'ended'} ${duration(disconnected.secondsAgo * 1_000)} ago`
  const seen = lastSeenSeconds === undefined ? 'when it was last seen is not known' : `last seen ${duration(lastSeenSeconds * 1_000)} ago`
  const since = sinceStart
    ? `${messages} ${messages === 1 ? 'message' : 'messages'} since the start of the daemon`
    : 'nothing since the start of the daemon'
  return `${seen}, ${link}, ${since}`
}

const ENDED: Readonly<Record<string, string>> = {
  goodbye: 'was closed by itself',
  lost: 'broke off',
  gateway: 'was closed by the gateway',
}

function limits({ limit, shed, deferred, last, limitedBy, inPerSecond }: DeviceDocument): Finding | undefined {
  if (limit === undefined || (shed === 0 && deferred === 0)) return undefined
  const name = limit.name === 'perDevice' ? 'limits.perDevice' : `limits.overrides.${limit.name}`
  const rate = limit.messagesPerSecond === null ? 'no limit of messages' : `${limit.messagesPerSecond} messages a second`
  const level = `its bucket is ${Math.round(limit.level * 100)} % full, that of the box ${Math.round(limit.globalLevel * 100)} %`
  const counts = [shed > 0 ? `${shed} of its messages were shed` : '', deferred > 0 ? `${deferred} deferred` : ''].filter(
    (part) => part !== '',
  )
  const now =
    last === undefined || (last !== 'deferred' && limitedBy === undefined)
      ? ''
      : `, the last one too (above ${limitedBy === 'global' ? 'limits.global' : name})`
  const words = `${counts.join(' and ')} since the start${now}; ${name} allows ${rate}, it sends ${inPerSecond}/s, ${level}`
  const key = limitedBy === 'global' ? 'limits.global.messagesPerSecond' : `${name}.messagesPerSecond`
  const isLimited = limitedBy !== undefined || deferred > 0
  return { words, remedy: isLimited ? `raise ${key} for a while: edgectl config override ${key} <number> --for 8h` : undefined }
}

function letters({ deadLetters }: DeviceDocument): Finding | undefined {
  if (deadLetters === 0) return undefined
  return { words: `${deadLetters} of its messages are dead letters, which Kafka refused for good`, remedy: 'edgectl dead-letters list' }
}

function refused({ refusals }: DeviceDocument): Finding | undefined {
  if (refusals.length === 0) return undefined
  return { words: refusals.slice(0, SAID_MAX).map(refusalWords).join('; '), remedy: remedyFor(refusals[0]) }
}

function gone({ state, silentAfterSeconds, disconnected, connected }: DeviceDocument, deaf: readonly string[]): Finding | undefined {
  if (state === 'online' || connected) return undefined
  if (deaf.length > 0) return { words: deaf.join('; '), remedy: 'edgectl status' }
  const after =
    silentAfterSeconds === null
      ? 'its silence is no news (presence: off)'
      : `it counts as silent after ${duration(silentAfterSeconds * 1_000)}`
  const look =
    disconnected?.how === 'lost'
      ? 'check its power and its network: it did not say goodbye'
      : 'check its power, its network, and that it still publishes'
  return { words: after, remedy: look }
}

function refusalWords(refusal: RefusalDocument | undefined): string {
  if (refusal === undefined) return ''
  const { kind, source, who, detail, count, last } = refusal
  const often = count === 1 ? '' : ` ${count} times, last`
  const name = who === '' ? 'somebody' : who
  if (kind === 'connect') return `a connect of ${name} to ${source} was refused${often} at ${last}: ${detail}`
  return `a message of ${name} to ${JSON.stringify(detail)} was refused${often} at ${last}: ${KINDS[kind] ?? kind}`
}

const KINDS: Readonly<Record<string, string>> = {
  'malformed-topic': 'no pattern of mqtt.topics matches it',
  'not-own-topic': 'it names another device, and nothing grants that',
  'unknown-device': 'it is not in the file of limits.knownDevices',
  retained: 'it is a retained message, and its source has retained: ignore',
  oversize: 'it is larger than limits.maxMessageBytes',
}

function remedyFor(refusal: RefusalDocument | undefined): string | undefined {
  switch (refusal?.kind) {
    case 'connect':
      return /password|user/.test(refusal.detail)
        ? 'sudo edgectl device passwd NAME makes a new password (device add for a new device); put it into the device'
        : 'edgectl status says what the listener takes'
    case 'malformed-topic':
      return 'correct the topic in the device, or add a pattern to mqtt.topics'
    case 'not-own-topic':
      return 'let it publish under its own name, or grant the topic in the aclFile of its listener'
    case 'unknown-device':
      return 'add it to the file of limits.knownDevices'
    case 'oversize':
      return 'send smaller messages, or raise limits.maxMessageBytes'
    default:
      return undefined
  }
}

/** The first begins with the device's name, which stays as it is. */
function sentenceOf([first = '', ...rest]: readonly string[]): string {
  return [first, ...rest.map((part) => part.slice(0, 1).toUpperCase() + part.slice(1))].map((part) => `${part}.`).join(' ')
}
