/** What `mqtt.connect` is told, and which of it can't work. Plain values; the config has its own schema. */
import { isIP } from 'node:net'
import { GatewayError } from '../../daemon/errors.ts'
import { filterFault, withoutOverlaps } from './connect-filters.ts'
import type { ConnectFilter } from './connect-filters.ts'

export type { ConnectFilter } from './connect-filters.ts'

/** PEM files; read anew at each attempt to connect. */
interface ConnectTls {
  /** Authorities that the broker's certificate must come from; without it those that Node ships. */
  readonly caFile?: string | undefined
  readonly certFile?: string | undefined
  readonly keyFile?: string | undefined
}

export interface ConnectSettings {
  /** `mqtt://host[:1883]` or `mqtts://host[:8883]`, tried in this order. */
  readonly urls: readonly string[]
  /** Names the session at the broker: two clients with one id cut each other off (MQTT 3.1.4-3). */
  readonly clientId: string
  /** 4 is MQTT 3.1.1. */
  readonly protocolVersion: 4 | 5
  /** MQTT 5 only: how long the broker keeps the session while we are away. 3.1.1 leaves that to the broker. */
  readonly sessionExpirySeconds: number
  /** MQTT 5 only: unacknowledged messages that the broker may send; lowered to `inFlight.messages`. */
  readonly receiveMaximum: number
  readonly keepaliveSeconds: number
  readonly username?: string | undefined
  readonly passwordFile?: string | undefined
  readonly tls?: ConnectTls | undefined
  readonly filters: readonly ConnectFilter[]
  /** Retained messages are copies of old ones and come again with each new subscription: ignored ones are counted. */
  readonly retained: 'ignore' | 'accept'
  /** The device that a topic speaks of: the only sign of who is online behind a broker. */
  readonly deviceOf?: ((topic: string) => string | undefined) | undefined
  /** Deliveries offered and not yet settled, over all connections of this source. */
  readonly inFlight: { readonly messages: number; readonly bytes: number }
}

export interface BrokerAddress {
  /** `scheme://host:port`, for words and as the key of what is remembered. */
  readonly url: string
  readonly isSecure: boolean
  readonly host: string
  readonly port: number
}

export interface CheckedSettings extends ConnectSettings {
  readonly brokers: readonly BrokerAddress[]
}

/** Throws a fatal `GatewayError` that names the setting and what to write instead. */
export function checkSettings(name: string, settings: ConnectSettings): CheckedSettings {
  const fail = (setting: string, fault: string, remedy: string): never => {
    throw new GatewayError('fatal', `mqtt.connect.${name}.${setting}: ${fault}`, { remedy })
  }
  const brokers = settings.urls.map((url) => parseUrl(url, fail))
  if (brokers.length === 0) fail('urls', 'no broker is named', 'Write at least one url, as mqtt://127.0.0.1:1883.')
  checkIdentity(settings, fail)
  checkNumbers(settings, fail)
  checkTls(settings, brokers, fail)
  return { ...settings, brokers, filters: checkFilters(settings, fail) }
}

type Fail = (setting: string, fault: string, remedy: string) => never

function parseUrl(text: string, fail: Fail): BrokerAddress {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !['mqtt:', 'mqtts:'].includes(url.protocol) || url.hostname === '') {
    return fail('urls', `"${withoutPassword(text)}" is no broker url`, 'Write mqtt://host:1883, or mqtts://host:8883 for TLS.')
  }
  if (url.username !== '' || url.password !== '') {
    fail('urls', 'the url holds a user name or password', 'Write them as username and passwordFile, so that no log shows them.')
  }
  if (!['', '/'].includes(url.pathname) || url.search !== '') {
    fail('urls', `"${text}" has a path`, 'Write only scheme, host and port: WebSocket is not supported.')
  }
  const isSecure = url.protocol === 'mqtts:'
  const port = url.port === '' ? (isSecure ? 8883 : 1883) : Number(url.port)
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  return { url: `${url.protocol}//${isIP(host) === 6 ? `[${host}]` : host}:${port}`, isSecure, host, port }
}

function withoutPassword(text: string): string {
  return text.replace(/\/\/[^/@]*@/, '//…@')
}

function checkIdentity(settings: ConnectSettings, fail: Fail): void {
  const { clientId, username, passwordFile } = settings
  if (clientId === '' || clientId.includes('\0') || Buffer.byteLength(clientId) > 65_535) {
    fail('clientId', 'a fixed client id is needed: the session at the broker hangs on it', "Write the gateway's id.")
  }
  if (passwordFile !== undefined && username === undefined) {
    fail('username', 'a password without a user name', 'Write username beside passwordFile (MQTT 3.1.2-22).')
  }
}

function checkNumbers(settings: ConnectSettings, fail: Fail): void {
  const range = (setting: string, value: number, least: number, most: number, why: string): void => {
    if (Number.isInteger(value) && value >= least && value <= most) return
    fail(setting, `${value} is out of range`, `Write a whole number from ${least} to ${most}: ${why}.`)
  }
  if (settings.protocolVersion !== 4 && settings.protocolVersion !== 5) {
    fail('protocolVersion', `${String(settings.protocolVersion)} is not known`, 'Write 5, or 4 for MQTT 3.1.1.')
  }
  if (settings.protocolVersion === 5) {
    range(
      'sessionExpiry',
      settings.sessionExpirySeconds,
      1,
      0xffff_ffff,
      'with 0 the session ends with the connection, and what comes meanwhile is lost',
    )
  }
  range('receiveMaximum', settings.receiveMaximum, 1, 65_535, 'the broker may send that many unacknowledged messages')
  range('keepalive', settings.keepaliveSeconds, 1, 65_535, 'without it a dead connection is never found')
  range('inFlight.messages', settings.inFlight.messages, 1, Number.MAX_SAFE_INTEGER, 'it bounds memory')
  range('inFlight.bytes', settings.inFlight.bytes, 1, Number.MAX_SAFE_INTEGER, 'it bounds memory')
}

function checkTls(settings: ConnectSettings, brokers: readonly BrokerAddress[], fail: Fail): void {
  const { tls } = settings
  if (tls === undefined) return
  const plain = brokers.find((broker) => !broker.isSecure)
  if (plain !== undefined) fail('tls', `certificates are named, but ${plain.url} is not encrypted`, 'Write mqtts:// for each broker.')
  if ((tls.certFile === undefined) !== (tls.keyFile === undefined)) {
    fail('tls', 'a client certificate needs both certFile and keyFile', 'Name both, or neither.')
  }
}

function checkFilters(settings: ConnectSettings, fail: Fail): readonly ConnectFilter[] {
  if (settings.filters.length === 0) fail('topics', 'nothing to subscribe to', 'Name at least one topic pattern under mqtt.topics.')
  for (const { filter } of settings.filters) {
    const fault = filterFault(filter)
    if (fault !== undefined) fail('topics', `"${filter}" ${fault.reason}`, fault.remedy)
  }
  const { filters, clash } = withoutOverlaps(settings.filters)
  if (clash !== undefined) {
    fail(
      'topics',
      `"${clash[0]}" and "${clash[1]}" overlap in part, so a broker may send one message twice`,
      'Use one pattern that covers both.',
    )
  }
  return filters
}
