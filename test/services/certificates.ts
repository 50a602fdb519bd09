import { execFile } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** PEM files. */
export interface KeyPair {
  readonly keyFile: string
  readonly certFile: string
  /** Key and certificate in one file, as Kafka wants them. */
  readonly bothFile: string
}

export interface Certificates {
  readonly caFile: string
  /** For 127.0.0.1 and localhost. */
  readonly server: KeyPair
  readonly client: KeyPair
}

/** An authority of its own, a server's and a client's certificate for TLS tests, made by openssl. Valid for a day. */
export async function makeCertificates(dir: string, clientName = 'test-client'): Promise<Certificates> {
  mkdirSync(dir, { recursive: true })
  const ca = await selfSigned(dir)
  const names = 'subjectAltName=IP:127.0.0.1,DNS:localhost'
  return {
    caFile: ca.certFile,
    server: await signed(dir, ca, 'server', '/CN=localhost', names),
    client: await signed(dir, ca, 'client', `/CN=${clientName}`, 'extendedKeyUsage=clientAuth'),
  }
}

async function selfSigned(dir: string): Promise<KeyPair> {
  const pair = files(dir, 'ca')
  await openssl('req', '-x509', ...newKey(pair), '-out', pair.certFile, '-days', '1', '-subj', '/CN=test authority')
  return pair
}

async function signed(dir: string, ca: KeyPair, name: string, subject: string, extension: string): Promise<KeyPair> {
  const pair = files(dir, name)
  const [request, extensions] = [join(dir, `${name}.csr`), join(dir, `${name}.ext`)]
  writeFileSync(extensions, `${extension}\n`)
  await openssl('req', ...newKey(pair), '-out', request, '-subj', subject)
  const authority = ['-CA', ca.certFile, '-CAkey', ca.keyFile, '-CAcreateserial']
  await openssl('x509', '-req', '-in', request, ...authority, '-days', '1', '-extfile', extensions, '-out', pair.certFile)
  writeFileSync(pair.bothFile, readFileSync(pair.keyFile, 'utf8') + readFileSync(pair.certFile, 'utf8'))
  return pair
}

function files(dir: string, name: string): KeyPair {
  const file = (ending: string): string => join(dir, `${name}${ending}`)
  return { keyFile: file('.key'), certFile: file('.crt'), bothFile: file('.pem') }
}

function newKey(pair: KeyPair): string[] {
  return ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', pair.keyFile]
}

async function openssl(...args: string[]): Promise<void> {
  await run('openssl', args)
}
