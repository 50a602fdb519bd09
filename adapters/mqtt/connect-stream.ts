/** The TCP or TLS connection to a broker, and the secrets that it takes. */
import { readFile } from 'node:fs/promises'
import { connect as connectTcp, isIP } from 'node:net'
import type { Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { GatewayError, messageOf } from '../../daemon/errors.ts'
import type { BrokerAddress, ConnectSettings } from './connect-settings.ts'

export interface Secrets {
  readonly password?: Buffer
  readonly ca?: Buffer
  readonly cert?: Buffer
  readonly key?: Buffer
}

/** Reads every file anew, so that a rotated one serves the next attempt. Rejects with a transient `GatewayError`. */
export async function readSecrets(settings: ConnectSettings): Promise<Secrets> {
  const { passwordFile, tls } = settings
  const password = await readNamed('passwordFile', passwordFile)
  return {
    ...(password === undefined ? {} : { password: withoutLineEnd(password, passwordFile ?? '') }),
    ...named('ca', await readNamed('caFile', tls?.caFile)),
    ...named('cert', await readNamed('certFile', tls?.certFile)),
    ...named('key', await readNamed('keyFile', tls?.keyFile)),
  }
}

function named<Name extends string>(name: Name, bytes: Buffer | undefined): { [K in Name]?: Buffer } {
  return (bytes === undefined ? {} : { [name]: bytes }) as { [K in Name]?: Buffer }
}

async function readNamed(setting: string, file: string | undefined): Promise<Buffer | undefined> {
  if (file === undefined) return undefined
  try {
    return await readFile(file)
  } catch (cause) {
    throw new GatewayError('transient', `${setting} ${file} can't be read (${messageOf(cause)})`, { cause })
  }
}

/** One line end after the secret is not part of it: editors add it. */
function withoutLineEnd(bytes: Buffer, file: string): Buffer {
  const end = /\r?\n$/.exec(bytes.toString('latin1'))?.index ?? bytes.length
  if (end === 0) throw new GatewayError('transient', `passwordFile ${file} is empty`)
  return bytes.subarray(0, end)
}

/** Begins to connect. TLS: at least 1.2, the broker's certificate and name are always checked. */
export function openStream(broker: BrokerAddress, secrets: Secrets): Socket {
  const { host, port } = broker
  if (!broker.isSecure) return connectTcp({ host, port, noDelay: true })
  const { ca, cert, key } = secrets
  return connectTls({
    host,
    port,
    ...(isIP(host) === 0 ? { servername: host } : {}),
    minVersion: 'TLSv1.2',
    ...named('ca', ca),
    ...named('cert', cert),
    ...named('key', key),
  }).setNoDelay(true)
}
