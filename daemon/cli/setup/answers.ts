/** The five answers, by whatever way they came, and what each makes of the configuration. */
import type { ConfigChange } from '../../../config/edit.ts'
import { parseFragment } from '../../../config/fragment.ts'
import { isObject, type Json, type JsonObject } from '../../../config/merge.ts'
import { ConfigError } from '../../../config/problem.ts'
import type { Settings } from '../../../config/settings.ts'
import { GatewayError } from '../../errors.ts'

export const QUESTIONS = ['id', 'devices', 'kafka', 'etcd', 'page'] as const
export type QuestionName = (typeof QUESTIONS)[number]
export type Answers = Readonly<Partial<Record<QuestionName, Json>>>

/** Where the files of an answer go, and what is configured already. */
export interface Place {
  readonly folder: string
  readonly now: Settings
  /** Name of the listener that the files write, or that they are to write. */
  readonly listener: string
}

const KEYS: Readonly<Record<QuestionName, readonly string[]>> = {
  id: [],
  devices: ['listen', 'auth', 'cert', 'key', 'connect', 'username', 'passwordFile', 'ca'],
  kafka: ['brokers', 'tls', 'ca', 'username', 'passwordFile', 'mechanism'],
  etcd: ['endpoints', 'ca', 'username', 'passwordFile', 'fleet'],
  page: ['listen', 'passwordFile', 'cert', 'key'],
}

/** An answers file: YAML or JSON with the names of the questions. Throws with every mistake. */
export function readAnswers(path: string, text: string): Answers {
  const { fragment, problems } = parseFragment(path, text, undefined)
  if (fragment === undefined || problems.length > 0) throw new ConfigError(problems)
  for (const [name, value] of Object.entries(fragment.value)) {
    if (!(QUESTIONS as readonly string[]).includes(name))
      throw refused(path, name, `there is no such question; there are ${QUESTIONS.join(', ')}`)
    const allowed = KEYS[name as QuestionName]
    for (const key of isObject(value) ? Object.keys(value) : [])
      if (!allowed.includes(key)) throw refused(path, `${name}.${key}`, `there is no such key; there are ${allowed.join(', ')}`)
  }
  return fragment.value
}

function refused(path: string, what: string, why: string): GatewayError {
  return new GatewayError('rejected', `${path}: ${what}: ${why}`)
}

export function changesOf(name: QuestionName, answer: Json, place: Place): readonly ConfigChange[] {
  return MAKERS[name](answer, place)
}

const MAKERS: Readonly<Record<QuestionName, (answer: Json, place: Place) => readonly ConfigChange[]>> = {
  id: (answer, { now }) => (answer === now.gateway.id ? [] : [{ path: ['gateway', 'id'], value: answer }]),
  devices: (answer, place) => {
    const given = mapOf(
      answer,
      'devices',
      'write devices: { listen: "mqtt://[::]:1883", auth: password }, or { connect: "mqtt://host:1883" }',
    )
    return given['connect'] === undefined ? listening(given, place) : connecting(given, place)
  },
  kafka: (answer) => kafka(answer),
  etcd: (answer) => etcd(answer),
  page: (answer, place) => page(answer, place),
}

function listening(given: JsonObject, { folder, now, listener: name }: Place): readonly ConfigChange[] {
  const at = ['mqtt', 'listen', name]
  const { listen = 'mqtt://127.0.0.1:1883', auth = 'password', cert, key } = given
  return [
    { path: [...at, 'url'], value: listen },
    ...(auth === 'none' ? [{ path: [...at, 'auth'], value: 'none' }] : withPasswords(now, name, folder)),
    ...pair([...at, 'tls'], { cert, key }, String(listen).startsWith('mqtts:')),
  ]
}

/** A listener that asks for passwords already keeps its own rules, whatever they are. */
function withPasswords(now: Settings, name: string, folder: string): readonly ConfigChange[] {
  if (now.mqtt.listen[name]?.auth.kind === 'required') return []
  return [{ path: ['mqtt', 'listen', name, 'auth'], value: { passwordFile: `${folder}/devices.passwd` } }]
}

/** Devices reach the broker, and no listener of ours: one that stays would take the port that the broker has. */
function connecting(given: JsonObject, { now }: Place): readonly ConfigChange[] {
  const { connect: url, username, passwordFile, ca } = given
  const name = Object.keys(now.mqtt.connect)[0] ?? 'plant'
  const at = ['mqtt', 'connect', name]
  return [
    { path: ['mqtt', 'listen'], value: undefined },
    { path: [...at, 'urls'], value: undefined },
    { path: [...at, 'url'], value: url },
    ...login(at, { username, passwordFile }),
    ...pair([...at, 'tls'], { ca }, String(url).startsWith('mqtts:')),
  ]
}

function kafka(answer: Json): readonly ConfigChange[] {
  if (answer === 'none') return [{ path: ['kafka'], value: undefined }]
  const given = Array.isArray(answer)
    ? { brokers: answer as Json }
    : mapOf(answer, 'kafka', 'write kafka: none, or kafka: { brokers: ["host:9092"] }')
  const { brokers, tls, ca, username, passwordFile, mechanism = 'scram-sha-512' } = given
  const sasl: Json | undefined =
    username === undefined ? undefined : { mechanism, username, ...(passwordFile !== undefined && { passwordFile }) }
  return [
    { path: ['kafka', 'brokers'], value: brokers },
    ...pair(['kafka', 'tls'], { ca }, tls === true || ca !== undefined),
    { path: ['kafka', 'sasl'], value: sasl },
  ]
}

function etcd(answer: Json): readonly ConfigChange[] {
  if (answer === 'none') return [{ path: ['etcd'], value: undefined }]
  const given = Array.isArray(answer)
    ? { endpoints: answer as Json }
    : mapOf(answer, 'etcd', 'write etcd: none, or etcd: { endpoints: ["https://host:2379"] }')
  const { endpoints, ca, username, passwordFile, fleet } = given
  const secure = Array.isArray(endpoints) && endpoints.some((one) => String(one).startsWith('https:'))
  return [
    { path: ['etcd', 'endpoints'], value: endpoints },
    ...login(['etcd'], { username, passwordFile }),
    ...pair(['etcd', 'tls'], { ca }, secure),
    ...(fleet === undefined ? [] : [{ path: ['gateway', 'fleet'], value: fleet }]),
  ]
}

export const PAGE_PORT = 9480

function page(answer: Json, { folder }: Place): readonly ConfigChange[] {
  const given: JsonObject = isObject(answer) ? answer : { listen: answer }
  const { listen, passwordFile = `${folder}/page.passwd`, cert, key } = given
  if (listen === 'off') return [{ path: ['page', 'listen'], value: 'off' }]
  if (listen === 'local') return [{ path: ['page', 'listen'], value: `127.0.0.1:${PAGE_PORT}` }]
  return [
    { path: ['page', 'listen'], value: listen === 'lan' ? `[::]:${PAGE_PORT}` : listen },
    { path: ['page', 'passwordFile'], value: passwordFile },
    ...(cert === undefined ? [] : pair(['page', 'tls'], { cert, key }, true)),
  ]
}

function login(at: readonly string[], given: Readonly<Record<string, Json | undefined>>): readonly ConfigChange[] {
  return ['username', 'passwordFile'].map((key) => ({ path: [...at, key], value: given[key] }))
}

/** The files of TLS; without TLS there are none, and with it those that are not named stay as they were. */
function pair(at: readonly string[], files: Readonly<Record<string, Json | undefined>>, secure: boolean): readonly ConfigChange[] {
  if (!secure) return [{ path: at, value: undefined }]
  return Object.entries(files).flatMap(([key, value]) => (value === undefined ? [] : [{ path: [...at, key], value }]))
}

function mapOf(answer: Json, name: string, example: string): JsonObject {
  if (isObject(answer)) return answer
  throw new GatewayError('rejected', `the answer to ${name} can't be used; ${example}`)
}
