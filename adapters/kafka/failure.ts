/** What an error of kafkajs, or an answer that it hid, means to the relay. */
import { GatewayError, messageOf, type ErrorKind } from '../../daemon/errors.ts'
import type { KafkaFailure } from '../../daemon/ports.ts'
import { CODES, UNKNOWN_TOPIC, type Meaning } from './codes.ts'
import type { Refusal } from './tap.ts'

export type Fate = KafkaFailure['fate']

interface Details {
  readonly kind: ErrorKind
  readonly message: string
  readonly fate: Fate
  readonly alarm?: boolean
  readonly remedy?: string | undefined
  readonly refused?: KafkaFailure['refused']
  readonly code?: number | undefined
  readonly cause?: unknown
}

export class KafkaError extends GatewayError implements KafkaFailure {
  readonly fate: Fate
  readonly alarm: boolean
  readonly refused?: { readonly topic: string; readonly partition: number }
  /** Kafka's error code, when a broker answered with one. */
  readonly code: number | undefined

  constructor({ kind, message, fate, alarm = false, remedy, refused, code, cause }: Details) {
    super(kind, message, { ...(remedy === undefined ? {} : { remedy }), cause })
    this.name = 'KafkaError'
    this.fate = fate
    this.alarm = alarm
    this.code = code
    if (refused !== undefined) this.refused = refused
  }

  withFate(fate: Fate): KafkaError {
    const { kind, message, alarm, remedy, refused, code, cause } = this
    return fate === this.fate ? this : new KafkaError({ kind, message, alarm, remedy, refused, code, cause, fate })
  }
}

/** The fields that errors of kafkajs have; each is there only sometimes. */
interface ClientError extends Error {
  readonly type?: unknown
  readonly code?: unknown
  readonly broker?: unknown
}

/** `refusals`: what the tap read during the failed call. */
export function kafkaError(error: unknown, fate: Fate, refusals: readonly Refusal[]): KafkaError {
  const root = rootOf(error)
  if (root instanceof KafkaError) return root.withFate(fate)
  const refusal = tellingOf(refusals, root)
  const meaning = refusal && CODES.get(refusal.code)
  if (refusal === undefined || meaning === undefined) return plainFailure(root, fate)
  return answered(meaning, refusal, root, fate)
}

const SETUP = 'Run `edgectl kafka setup`, or `edgectl kafka setup --print` and have the commands run.'

/** For who asked for this very topic: that it is missing is then no passing state. */
export function alarmIfMissing(failure: KafkaError, topic: string): KafkaError {
  if (failure.code !== UNKNOWN_TOPIC || !failure.message.includes(`"${topic}"`)) return failure
  const { kind, fate, code, cause } = failure
  return new KafkaError({ kind, fate, code, cause, alarm: true, message: `Kafka has no topic "${topic}"`, remedy: SETUP })
}

/** With no retries left, and in each nested retrier, kafkajs wraps the error that counts. */
function rootOf(error: unknown): ClientError {
  let root = error
  while (root instanceof Error && root.name !== 'KafkaError' && root.cause instanceof Error) root = root.cause
  return root instanceof Error ? root : new Error(messageOf(root))
}

const NOT_ATTEMPTED = 55
/** Errors of kafkajs behind which an answer is hidden. */
const MUTE = new Set(['KafkaJSGroupCoordinatorNotFound', 'TypeError'])

/** The answer that counts: kafkajs's own code, with the place that goes with it, or the one that it hid. */
function tellingOf(refusals: readonly Refusal[], error: ClientError): Refusal | undefined {
  const { name } = error
  const code = codeOf(error)
  if (code !== undefined && code !== NOT_ATTEMPTED) return refusals.findLast((refusal) => refusal.code === code) ?? { code }
  if (code !== NOT_ATTEMPTED && !MUTE.has(name)) return undefined
  return refusals.findLast((refusal) => refusal.code !== NOT_ATTEMPTED)
}

/** Codes newer than kafkajs, such as 90, are in the text only. */
function codeOf({ code, type, message }: ClientError): number | undefined {
  if (type === 'KAFKAJS_UNKNOWN_ERROR_CODE') return Number(/-?\d+$/.exec(message)?.[0] ?? code)
  return typeof code === 'number' ? code : undefined
}

function answered({ kind, say, alarm, remedy }: Meaning, { code, topic, partition }: Refusal, cause: Error, fate: Fate): KafkaError {
  const place =
    topic === undefined
      ? 'a topic'
      : partition === undefined || alarm === true
        ? `the topic "${topic}"`
        : `partition ${partition} of the topic "${topic}"`
  const refused = kind === 'rejected' && topic !== undefined && partition !== undefined ? { topic, partition } : undefined
  return new KafkaError({ kind, message: say(place), fate, alarm: alarm ?? false, remedy, refused, code, cause })
}

const TLS_CODE = /^(ERR_TLS|ERR_SSL|CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|HOSTNAME_MISMATCH|EPROTO)/

function plainFailure(root: ClientError, fate: Fate): KafkaError {
  const { code, name, message } = root
  const failed = (words: string, more: Partial<Details> = {}): KafkaError =>
    new KafkaError({ kind: 'transient', fate, cause: root, message: words, ...more })
  if (name === 'KafkaJSSASLAuthenticationError')
    return failed(`the broker refuses our credentials: ${message}`, { alarm: true, remedy: 'Look at kafka.sasl.' })
  if (typeof code === 'string' && TLS_CODE.test(code)) {
    return failed(`no TLS connection to the broker: ${withoutPrefix(message)}`, {
      alarm: true,
      remedy: "Look at kafka.tls and the broker's certificate.",
    })
  }
  if (typeof root.type === 'string') return failed(`Kafka answered ${root.type}: ${message}`, { code: codeOf(root) })
  return failed(wordsFor(root))
}

function wordsFor({ name, message, broker }: ClientError): string {
  const where = typeof broker === 'string' ? `the broker ${broker}` : 'the broker'
  switch (name) {
    case 'KafkaJSConnectionClosedError':
      return `${where} closed the connection`
    case 'KafkaJSConnectionError':
      return `no connection to ${where}: ${withoutPrefix(message)}`
    case 'KafkaJSRequestTimeoutError':
      return `${where} did not answer: ${message}`
    // An answer would have come out with its code: there was none.
    case 'KafkaJSGroupCoordinatorNotFound':
      return 'the broker did not answer when asked for our coordinator'
    case 'KafkaJSBrokerNotFound':
      return `the cluster has no such broker: ${message}`
    default:
      return message
  }
}

/** kafkajs puts this before what the socket said; a bare code of the system says nothing to a technician. */
function withoutPrefix(message: string): string {
  return message
    .replace(/^Connection error: /, '')
    .replace(/^connect ECONNREFUSED .*/, 'nothing listens there')
    .replace(/^connect E(?:HOST|NET)UNREACH .*/, 'there is no route to it')
    .replace(/^getaddrinfo (?:ENOTFOUND|EAI_AGAIN) (.*)/, 'the name $1 can not be resolved')
}
