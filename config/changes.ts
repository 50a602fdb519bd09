import { isDeepStrictEqual } from 'node:util'
import type { Settings } from './settings.ts'

/** The part of the program that a change concerns. */
type ConcernedComponent =
  | 'gateway'
  | 'listener'
  | 'connection'
  | 'topics'
  | 'admission'
  | 'outbox'
  | 'ledger'
  | 'presence'
  | 'relay'
  | 'etcd'
  | 'patches'
  | 'metrics'
  | 'page'
  | 'control'
  | 'log'
  | 'shutdown'

/** One difference between two settings. */
export interface Change {
  /** The key of the file, `limits.perDevice.burst`. */
  readonly path: string
  readonly component: ConcernedComponent
  /** Name of the listener or connection, when it concerns one. */
  readonly entry: string | undefined
  /** `live`: take it over at a reload. `restart`: it is in force after the next start. */
  readonly apply: 'live' | 'restart'
}

interface Rule {
  /** `*` stands for one step. */
  readonly path: readonly string[]
  readonly component: ConcernedComponent
  readonly apply: 'live' | 'restart'
}

function rule(path: string, component: ConcernedComponent, apply: 'live' | 'restart'): Rule {
  return { path: path.split('.'), component, apply }
}

/**
 * The first that matches counts. Live means: taken over by the component alone, while all others go on. A listener,
 * a connection or an endpoint that changed is stopped with a drain and started anew, and only that one. What names the
 * past (id, folder, prefix) and what patches come through waits for a restart of the daemon.
 */
const RULES: readonly Rule[] = [
  rule('gateway.id', 'gateway', 'restart'),
  rule('gateway.dataDir', 'gateway', 'restart'),
  rule('gateway', 'gateway', 'live'),
  rule('mqtt.listen', 'listener', 'live'),
  rule('mqtt.connect', 'connection', 'live'),
  // The intake takes new patterns, the connections among their sources subscribe anew; listeners see no difference.
  rule('mqtt.topics', 'topics', 'live'),
  // Also all listeners, which take packets of this size: raised for the intake alone, they would refuse what it allows.
  rule('limits.maxMessageBytes', 'admission', 'live'),
  // Also all listeners and connections: each has its share of the bytes.
  rule('limits.inFlight', 'admission', 'live'),
  rule('limits', 'admission', 'live'),
  rule('buffer', 'outbox', 'live'),
  rule('ledger', 'ledger', 'live'),
  rule('presence', 'presence', 'live'),
  rule('kafka.prefix', 'relay', 'restart'),
  rule('kafka', 'relay', 'live'),
  rule('etcd', 'etcd', 'restart'),
  rule('patches', 'patches', 'restart'),
  rule('metrics', 'metrics', 'live'),
  rule('page', 'page', 'live'),
  rule('control', 'control', 'restart'),
  rule('log', 'log', 'live'),
  rule('shutdown', 'shutdown', 'live'),
]

/** What differs, by key, in the order of the keys; empty when nothing does. Neither argument is changed. */
export function changes(before: Settings, after: Settings): readonly Change[] {
  const paths = differing(before, after, []).flatMap((path) => keyPath(path) ?? [])
  return [...new Set(paths)].map(concerned)
}

/** A list is one value: merge patches replace it whole. */
function differing(before: unknown, after: unknown, path: readonly string[]): readonly (readonly string[])[] {
  if (isDeepStrictEqual(before, after)) return []
  if (!isRecord(before) || !isRecord(after)) return [path]
  // Another variant of a union: its fields are others, and only the whole can be named.
  if (before['kind'] !== after['kind'] || before['mechanism'] !== after['mechanism']) return [path]
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])]
  return keys.flatMap((key) => differing(before[key], after[key], [...path, key]))
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Settings that follow from a key which is reported itself. */
const DERIVED = /\.(maxPacketBytes|topicParts|filter|parts)$/
/** Values that are one scalar in the file and several fields in the settings. */
const WHOLE = /^(.*\.(?:url|listen|from))\.(?:href|secure|host|port|pointer|regex|part|name)$/

/** From the path of a setting to the key of the file; undefined for what is derived. */
function keyPath(path: readonly string[]): string | undefined {
  const joined = path.join('.')
  if (DERIVED.test(joined)) return undefined
  const key = joined.replace(WHOLE, '$1').replace(/(Ms|Fraction)$/, '')
  return key.replace(/^(mqtt\.connect\.[^.]+)\.urls$/, '$1.url')
}

function concerned(path: string): Change {
  const steps = path.split('.')
  const found = RULES.find(({ path: wanted }) => wanted.every((step, index) => step === '*' || step === steps[index]))
  const entry = /^mqtt\.(?:listen|connect)\.([^.]+)/.exec(path)?.[1]
  // A key that no rule knows is new: a restart takes it over whatever it is.
  return { path, component: found?.component ?? 'gateway', entry, apply: found?.apply ?? 'restart' }
}
