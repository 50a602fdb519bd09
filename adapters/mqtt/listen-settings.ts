import { GatewayError } from '../../daemon/errors.ts'

/** Who a device is: what it proved, and what its topics are held against. */
export type DeviceFrom = 'username' | 'clientId' | 'commonName'

export interface ListenTls {
  readonly certFile: string
  readonly keyFile: string
  /** CA of the devices' certificates. */
  readonly caFile?: string
  /** Revocation list of that CA; it must be current, or nobody comes in. */
  readonly crlFile?: string
  readonly requireClientCert: boolean
}

export interface ListenAuth {
  /** In mosquitto_passwd's format. */
  readonly passwordFile?: string
  /** In the format of mosquitto's `acl_file`: it narrows what a device may publish as itself, and a rule of a user lets that user publish for others. */
  readonly aclFile?: string
  readonly deviceFrom: DeviceFrom
}

export interface ListenSettings {
  /** `mqtt://host:port` or `mqtts://host:port`; IPv6 hosts in brackets, port 0 for any. */
  readonly url: string
  readonly tls?: ListenTls
  readonly auth: 'none' | ListenAuth
  readonly maxConnections: number
  readonly connectsPerSecond: number
  /** Remaining length of the largest packet that is taken whole, bytes. */
  readonly maxPacketBytes: number
  /** Longest silence, before the factor 1.5, also of a client that asks for none (keepalive 0). */
  readonly keepaliveMaxSeconds: number
  /** Received and not yet settled; beyond it the connection is not read. */
  readonly inFlightPerConnection: { readonly messages: number; readonly bytes: number }
  /** The same for the whole listener, bytes; includes packets that have come only in part. */
  readonly inFlightBytes: number
  /** Topic filters that a device may subscribe to; without it those of its own settings, or what the access list grants. */
  readonly allowSubscribe?: (device: { readonly clientId: string; readonly identity: string | undefined }, filter: string) => boolean
}

export interface ListenAddress {
  readonly host: string
  readonly port: number
  readonly secure: boolean
}

/** Throws `fatal`, with what to write instead, when the settings contradict themselves. */
export function addressOf(name: string, settings: ListenSettings): ListenAddress {
  const address = parseUrl(name, settings.url)
  const { tls, auth } = settings
  const refuse = (why: string, remedy: string): never => {
    throw new GatewayError('fatal', `mqtt.listen.${name}: ${why}`, { remedy })
  }
  if (address.secure && tls === undefined) refuse('mqtts:// needs a certificate', 'Add tls: { cert, key }, or write mqtt://.')
  if (!address.secure && tls !== undefined) refuse('tls is set, but the URL says mqtt://', 'Write mqtts://, or remove tls.')
  if (tls?.requireClientCert === true && tls.caFile === undefined) {
    refuse('client certificates are required, but no CA is named', 'Add tls.ca, the CA that signed them.')
  }
  if (auth === 'none') return address
  const proven = tls?.requireClientCert === true
  if (auth.deviceFrom === 'commonName' && !proven) {
    refuse('deviceFrom: commonName needs client certificates', 'Set tls.requireClientCert: true.')
  }
  if (auth.deviceFrom !== 'commonName' && auth.passwordFile === undefined) {
    refuse(
      `deviceFrom: ${auth.deviceFrom} needs a password file, or nobody proves who it is`,
      'Add auth.passwordFile, or use deviceFrom: commonName.',
    )
  }
  return address
}

function parseUrl(name: string, text: string): ListenAddress {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !['mqtt:', 'mqtts:'].includes(url.protocol) || url.hostname === '' || !['', '/'].includes(url.pathname)) {
    throw new GatewayError('fatal', `mqtt.listen.${name}.url is "${text}", which is no MQTT address`, {
      remedy: 'Write mqtt://127.0.0.1:1883 or mqtts://[::]:8883.',
    })
  }
  const secure = url.protocol === 'mqtts:'
  const port = url.port === '' ? (secure ? 8883 : 1883) : Number(url.port)
  return { host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port, secure }
}
