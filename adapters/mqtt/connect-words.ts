/** Plain words for what stands between us and a broker. Pure. */
import type { BrokerAddress } from './connect-settings.ts'

interface Coded {
  readonly code?: unknown
  readonly message: string
  readonly errors?: readonly Coded[]
}

/** Why no connection came about, or why one broke; `error` is Node's or MQTT.js's. */
export function failureWords(error: unknown, broker: BrokerAddress): string {
  const coded = innermost(error)
  const code = typeof coded.code === 'string' ? coded.code : ''
  const known = NETWORK[code] ?? TLS[code]
  if (known !== undefined) return known.replaceAll('{url}', broker.url).replaceAll('{host}', broker.host)
  if (typeof coded.code === 'number') return refusalWords(coded.code, broker)
  if (/ALERT/i.test(code)) return `${broker.url} refuses our client certificate (${opensslWords(coded)}): check certFile and keyFile`
  if (code.startsWith('ERR_SSL') || code === 'EPROTO') return `TLS with ${broker.url} failed (${opensslWords(coded)})`
  if (code.startsWith('ERR_OSSL')) return `the certificate files can't be used (${opensslWords(coded)}): check certFile and keyFile`
  if (coded.message === 'Keepalive timeout') return `${broker.url} stopped answering: no PINGRESP within one and a half keepalives`
  return `${broker.url}: ${coded.message}`
}

/** Several addresses of one name were tried (happy eyeballs): the last error is as good as any. */
function innermost(error: unknown): Coded {
  const coded: Coded = error instanceof Error ? error : { message: String(error) }
  const last = coded.errors?.at(-1)
  return last === undefined ? coded : innermost(last)
}

/** OpenSSL's message holds addresses and file names of its own source; the code holds the reason. */
function opensslWords({ code, message }: Coded): string {
  return /^ERR_(SSL|OSSL)_/.test(String(code))
    ? String(code)
        .replace(/^ERR_O?SSL_/, '')
        .toLowerCase()
        .replaceAll('_', ' ')
    : message.trim()
}

const NETWORK: Readonly<Record<string, string>> = {
  ECONNREFUSED: '{url} refuses the connection: nothing listens there',
  ECONNRESET: '{url} reset the connection',
  EPIPE: '{url} closed the connection',
  ETIMEDOUT: '{url} does not answer (TCP timeout)',
  EHOSTUNREACH: '{url} can not be reached: no route to the host',
  ENETUNREACH: '{url} can not be reached: no network',
  ENOTFOUND: 'the name {host} can not be resolved: no such host',
  EAI_AGAIN: 'the name {host} can not be resolved: the name server does not answer',
}

const TLS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: "{url}: the broker's certificate has expired (or our clock is wrong)",
  CERT_NOT_YET_VALID: "{url}: the broker's certificate is not valid yet: is our clock right?",
  DEPTH_ZERO_SELF_SIGNED_CERT: "{url}: the broker's certificate is self-signed: name it as caFile",
  SELF_SIGNED_CERT_IN_CHAIN: "{url}: the broker's certificate comes from an authority that caFile does not hold",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "{url}: the broker's certificate comes from an authority that caFile does not hold",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "{url}: the broker's certificate comes from an authority that caFile does not hold",
  CERT_SIGNATURE_FAILURE: "{url}: the broker's certificate comes from an authority that caFile does not hold",
  ERR_TLS_CERT_ALTNAME_INVALID: "{url}: the broker's certificate is not for {host}",
  ERR_SSL_WRONG_VERSION_NUMBER: '{url} does not speak TLS: is it a port for mqtt://?',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: '{url} does not speak TLS: is it a port for mqtt://?',
  ERR_OSSL_X509_KEY_VALUES_MISMATCH: 'keyFile does not belong to certFile',
}

/** CONNACK's return code (3.1.1 section 3.2.2.3) or a reason code of MQTT 5 (section 2.4). */
export function refusalWords(code: number, broker: BrokerAddress): string {
  const words = REFUSALS[code]
  return words === undefined
    ? `${broker.url} refused (reason code 0x${code.toString(16).padStart(2, '0')})`
    : words.replaceAll('{url}', broker.url)
}

const REFUSALS: Readonly<Record<number, string>> = {
  0x00: '{url} closed the connection in good order',
  0x01: '{url} does not speak this version of MQTT: set protocolVersion to the other one',
  0x02: '{url} refuses the client id',
  0x03: '{url} is not available (it says so itself)',
  0x04: '{url} refuses the user name or password',
  0x05: "{url} does not authorise us: check username, passwordFile and the broker's rules",
  0x80: '{url} refused without a reason',
  0x81: '{url} says that we sent a malformed packet',
  0x82: '{url} says that we broke the protocol',
  0x84: '{url} does not speak this version of MQTT: set protocolVersion to the other one',
  0x85: '{url} refuses the client id',
  0x86: '{url} refuses the user name or password',
  0x87: "{url} does not authorise us: check username, passwordFile and the broker's rules",
  0x88: '{url} is not available (it says so itself)',
  0x89: '{url} is busy (it says so itself)',
  0x8a: '{url} has banned us',
  0x8b: '{url} is shutting down',
  0x8d: '{url} heard nothing from us for one and a half keepalives',
  0x8f: '{url} does not accept the topic filter',
  0x93: '{url} says that we keep too many messages unacknowledged',
  0x95: '{url} says that a packet was too large',
  0x96: '{url} says that the rate is too high',
  0x97: '{url} says that a quota is used up',
  0x98: '{url} was told to close the connection',
  0x9c: '{url} says to use another broker',
  0x9d: '{url} has moved',
  0x9f: '{url} says that we connect too often',
  0xa2: '{url} does not allow wildcards in subscriptions',
}

/** Reason codes of a refused subscription (SUBACK), short, for a list of filters. */
export function subackWords(code: number): string {
  return SUBACKS[code] ?? `reason code 0x${code.toString(16)}`
}

const SUBACKS: Readonly<Record<number, string>> = {
  0x80: 'refused, most likely not authorised',
  0x83: 'refused by a rule of this broker',
  0x87: 'not authorised',
  0x8f: 'not a valid filter for this broker',
  0x97: 'quota used up',
  0x9e: 'shared subscriptions are not supported',
  0xa1: 'subscription identifiers are not supported',
  0xa2: 'wildcards are not supported',
}

export function takenOverWords(clientId: string, broker: BrokerAddress): string {
  return `another client with the client id "${clientId}" took our session at ${broker.url}: two gateways must not share one clientId`
}

/** mosquitto says nothing when a second client takes a session over, and MQTT 3.1.1 has no word for it. */
export function suspicionWords(clientId: string, broker: BrokerAddress): string {
  return `${broker.url} closes the connection again and again, soon after it was made: does another client use the client id "${clientId}"?`
}
