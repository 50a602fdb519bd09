import { X509Certificate } from 'node:crypto'
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls'
import type { Clock } from '../../daemon/clock.ts'
import { GatewayError, messageOf } from '../../daemon/errors.ts'
import type { Log } from '../../daemon/ports.ts'
import { revokedSerials } from './tls-crl.ts'
import { WatchedFiles } from './tls-files.ts'

/** PEM files. A server names `certFile` and `keyFile`; a client may name all, or none. */
export interface TlsPaths {
  readonly certFile?: string
  readonly keyFile?: string
  readonly caFile?: string
  /** Revocation list of the CA; it must be current, or nobody is let in. */
  readonly crlFile?: string
}

/** What the files hold, ready for `tls.connect`, `tls.Server.setSecureContext` or MQTT.js. */
export interface TlsMaterial {
  readonly cert?: Buffer
  readonly key?: Buffer
  readonly ca?: Buffer
  readonly crl?: Buffer
}

/**
 * TLS files that are read again when they change. `load` rejects, and a change is refused, when a file is no PEM,
 * or when the key does not belong to the certificate.
 */
export function tlsFiles(what: string, paths: TlsPaths, clock: Clock, log: Log): WatchedFiles<TlsMaterial> {
  const names = (['certFile', 'keyFile', 'caFile', 'crlFile'] as const).filter((name) => paths[name] !== undefined)
  if ((paths.certFile === undefined) !== (paths.keyFile === undefined)) {
    throw new GatewayError('fatal', `${what}: a certificate needs its key, and a key its certificate`, { remedy: 'Name both, or neither.' })
  }
  return new WatchedFiles({
    what,
    paths: names.map((name) => paths[name] ?? ''),
    clock,
    log,
    read: (contents) => {
      const material: TlsMaterial = Object.fromEntries(names.map((name, i) => [name.replace('File', ''), contents[i]]))
      checkMaterial(material)
      return material
    },
  })
}

/** A context for either side. Throws when the material can't be used. */
export function secureContextOf(material: TlsMaterial): SecureContext {
  const options: SecureContextOptions = { ...material, minVersion: 'TLSv1.2' }
  return createSecureContext(options)
}

function checkMaterial(material: TlsMaterial): void {
  if (material.cert !== undefined) firstCertificate('certificate', material.cert)
  if (material.ca !== undefined) firstCertificate('CA', material.ca)
  if (material.crl !== undefined) revokedSerials(material.crl)
  try {
    secureContextOf(material)
  } catch (error) {
    throw new Error(plainReason(messageOf(error)), { cause: error })
  }
}

function firstCertificate(role: string, pem: Buffer): X509Certificate {
  try {
    return new X509Certificate(pem)
  } catch (error) {
    throw new Error(`the ${role} file holds no PEM certificate`, { cause: error })
  }
}

function plainReason(message: string): string {
  if (message.includes('key values mismatch')) return 'the key does not belong to the certificate'
  if (/DECODER|no start line|unsupported/i.test(message)) return 'the key file holds no PEM key that can be read without a passphrase'
  return message
}

export function sameBytes(a: Buffer | undefined, b: Buffer | undefined): boolean {
  return a === undefined || b === undefined ? a === b : a.equals(b)
}
