import type { Finding } from '../issues.ts'
import type { Path } from '../problem.ts'
import type { Config } from '../schema.ts'
import { isLoopback } from '../schema/scalars.ts'
import { filterCovers, filtersOverlap } from '../schema/topic.ts'
import { formatSize } from '../units.ts'
import { clientCertificate, schemeMatchesTls, usernameWithPassword } from './links.ts'
import { type Relation, relation, warning, wrong } from './relation.ts'

type Mqtt = Config['mqtt']
type Listener = NonNullable<Mqtt['listen']>[string]
type Connection = NonNullable<Mqtt['connect']>[string]

export const mqttRelations: readonly Relation[] = [
  relation(['mqtt'], ({ mqtt }) => eachListener(mqtt, listenerRules)),
  relation(['mqtt', 'limits'], ({ mqtt, limits }) => eachListener(mqtt, (listener, path) => roomForOne(listener, path, limits))),
  relation(['mqtt'], ({ mqtt }) => eachConnection(mqtt, connectionRules)),
  relation(['mqtt'], ({ mqtt }) => sharedClientIds(mqtt)),
  relation(['mqtt'], ({ mqtt }) => sourceNames(mqtt)),
  relation(['mqtt'], ({ mqtt }) => subscriptions(mqtt)),
  relation(['mqtt'], ({ mqtt }) => overlappingTopics(mqtt)),
]

function* eachListener(mqtt: Mqtt, rules: (listener: Listener, path: Path) => Iterable<Finding>): Iterable<Finding> {
  for (const [name, listener] of Object.entries(mqtt.listen ?? {})) yield* rules(listener, ['mqtt', 'listen', name])
}

function* eachConnection(mqtt: Mqtt, rules: (connection: Connection, path: Path) => Iterable<Finding>): Iterable<Finding> {
  for (const [name, connection] of Object.entries(mqtt.connect ?? {})) yield* rules(connection, ['mqtt', 'connect', name])
}

function* listenerRules(listener: Listener, path: Path): Iterable<Finding> {
  yield* listenerTls(listener, path)
  yield* listenerAuth(listener, path)
}

function* listenerTls({ url, tls }: Listener, path: Path): Iterable<Finding> {
  if (url.secure && tls === undefined)
    yield wrong([...path, 'url'], 'mqtts:// needs a certificate; add tls: { cert: /path.crt, key: /path.key }')
  if (!url.secure && tls !== undefined)
    yield wrong([...path, 'tls'], 'the url is mqtt://, without TLS; write mqtts:// in the url, or remove tls')
  if (tls?.requireClientCert === true && tls.ca === undefined) {
    yield wrong(
      [...path, 'tls', 'requireClientCert'],
      "no authority is named that may sign the devices' certificates; add ca: /path/to/devices-ca.crt",
    )
  }
}

function* listenerAuth({ url, tls, auth }: Listener, path: Path): Iterable<Finding> {
  const certified = tls?.requireClientCert === true
  if (auth === 'none') return
  if (auth === undefined) {
    if (!certified && !isLoopback(url.host)) {
      yield wrong(
        path,
        `${url.href} is not on loopback and has no authentication: anyone who reaches it could publish as any device; ` +
          'add auth: { passwordFile: /path }, or tls with requireClientCert: true, or say that you want this with auth: none',
      )
    }
    return
  }
  if (auth.deviceFrom === 'commonName' && !certified) {
    yield wrong(
      [...path, 'auth', 'deviceFrom'],
      'commonName needs client certificates; add tls: { requireClientCert: true, ca: /path }, or write username',
    )
  }
  if (auth.passwordFile === undefined && auth.deviceFrom !== 'commonName') {
    yield wrong(
      [...path, 'auth'],
      `without a password nothing proves the ${auth.deviceFrom === 'username' ? 'user name' : 'client id'}; ` +
        `add passwordFile: /path${certified ? ', or write deviceFrom: commonName' : ''}, or write auth: none`,
    )
  }
  if (auth.passwordFile !== undefined && !url.secure && !isLoopback(url.host)) {
    yield warning([...path, 'url'], 'devices send their passwords in clear; write mqtts:// with tls')
  }
}

function* roomForOne(listener: Listener, path: Path, limits: Config['limits']): Iterable<Finding> {
  const { bytes } = listener.inFlightPerConnection
  if (bytes >= limits.maxMessageBytes) return
  yield wrong(
    [...path, 'inFlightPerConnection', 'bytes'],
    `${formatSize(bytes)} can never hold a message of limits.maxMessageBytes; write at least ${formatSize(limits.maxMessageBytes)}`,
  )
}

function* connectionRules(connection: Connection, path: Path): Iterable<Finding> {
  const { url, urls } = connection
  const endpoints = [...(url === undefined ? [] : [url]), ...(urls ?? [])]
  if (endpoints.length === 0) yield wrong(path, 'no broker is named; add url: mqtt://host:port')
  if (url !== undefined && urls !== undefined) yield wrong([...path, 'urls'], 'url and urls exclude each other; keep one')
  else yield* schemeMatchesTls(endpoints, connection.tls, [...path, urls === undefined ? 'url' : 'urls'], path, 'mqtt', 'mqtts')
  yield* clientCertificate(connection.tls, path)
  yield* connectionLogin(
    connection,
    endpoints.some(({ secure, host }) => !secure && !isLoopback(host)),
    path,
  )
  if (connection.protocolVersion === 5 && connection.sessionExpiry < 1_000) {
    yield wrong(
      [...path, 'sessionExpiry'],
      'the broker would forget the session, and all that waits in it, as soon as the connection ends ' +
        '(MQTT 5 section 3.1.2.11.2); write at least 1s, for example 7d',
    )
  }
}

function* connectionLogin(connection: Connection, inClear: boolean, path: Path): Iterable<Finding> {
  yield* usernameWithPassword(connection, path)
  if (connection.passwordFile !== undefined && inClear)
    yield warning([...path, 'passwordFile'], 'the password goes over the network in clear; write mqtts://')
}

/** A broker closes the first of two connections with one client id, and each would do that to the other for ever. */
function* sharedClientIds(mqtt: Mqtt): Iterable<Finding> {
  const seen = new Map<string, string>()
  for (const [name, connection] of Object.entries(mqtt.connect ?? {})) {
    for (const { host, port } of connection.urls ?? (connection.url === undefined ? [] : [connection.url])) {
      const key = JSON.stringify([host, port, connection.clientId])
      const other = seen.get(key)
      seen.set(key, name)
      if (other === undefined || other === name) continue
      yield wrong(
        ['mqtt', 'connect', name, 'clientId'],
        `mqtt.connect.${other} has the same client id at ${host}:${port}, and the two would throw each other out; write another`,
      )
    }
  }
}

function* sourceNames(mqtt: Mqtt): Iterable<Finding> {
  const listeners = Object.keys(mqtt.listen ?? {})
  const connections = Object.keys(mqtt.connect ?? {})
  const both = connections.filter((name) => listeners.includes(name))
  for (const name of both) yield wrong(['mqtt', 'connect', name], 'a listener has this name too; rename one, since counts are kept by name')
  if (listeners.length + connections.length === 0)
    yield warning(['mqtt'], 'no listener and no connection: nothing can arrive; add mqtt.listen or mqtt.connect')
}

function* subscriptions(mqtt: Mqtt): Iterable<Finding> {
  const connections = Object.keys(mqtt.connect ?? {})
  const topics = Object.entries(mqtt.topics)
  if (topics.length === 0)
    yield wrong(
      ['mqtt', 'topics'],
      'no topic is named, so that every message would be dropped; add one such as { device-logs: { pattern: "devices/{device}/logs/{stream}" } }',
    )
  for (const [topic, { sources }] of topics) {
    for (const [index, source] of (sources ?? []).entries()) {
      if (connections.includes(source)) continue
      const remedy = connections.length === 0 ? 'remove sources' : `write ${connections.join(', ')}`
      yield wrong(
        ['mqtt', 'topics', topic, 'sources', index],
        `there is no mqtt.connect.${source} (a listener takes every topic); ${remedy}`,
      )
    }
  }
  const idle = connections.filter((name) => topics.length > 0 && !topics.some(([, { sources }]) => sources?.includes(name) ?? true))
  for (const name of idle)
    yield wrong(
      ['mqtt', 'connect', name],
      'no topic has it among its sources, so that it would subscribe to nothing; add it to one, or remove it',
    )
}

/**
 * The first pattern that matches counts, and a broker may send a message once for each subscription that matches
 * (MQTT 5 section 3.3.4). So a special case may stand before the pattern that covers it, and nothing else may overlap.
 */
function* overlappingTopics(mqtt: Mqtt): Iterable<Finding> {
  const topics = Object.entries(mqtt.topics)
  for (const [index, [name, { pattern }]] of topics.entries()) {
    for (const [otherName, { pattern: earlier }] of topics.slice(0, index)) {
      const path = ['mqtt', 'topics', name, 'pattern']
      if (filterCovers(earlier.filter, pattern.filter)) {
        yield wrong(
          path,
          `mqtt.topics.${otherName} (${earlier.pattern}) stands before it and matches all that it matches; put the special case first, or remove it`,
        )
      } else if (filtersOverlap(earlier.filter, pattern.filter) && !filterCovers(pattern.filter, earlier.filter)) {
        yield wrong(
          path,
          `some topics match this and mqtt.topics.${otherName} (${earlier.pattern}), and a broker may send each of them twice; write patterns that do not overlap`,
        )
      }
    }
  }
}
