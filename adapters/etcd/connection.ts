/**
 * Makes the driver. Everything that etcd3 does by itself beyond one call is turned off here: its retries would send a
 * transaction twice behind our back, its circuit breaker keeps a healed etcd away for 5 s more.
 */
import { readFile } from 'node:fs/promises'
import { rootCertificates } from 'node:tls'
import type { Etcd3, IOptions } from 'etcd3'
import { unreadable } from './failure.ts'
import type { EtcdClientSettings, EtcdTlsSettings } from './settings.ts'

type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>

/** Runs each call once. Of a policy the driver calls `execute` only, and relies on it never to throw but to reject. */
const once = { execute: async (attempt: () => unknown) => attempt() } as unknown as Policy

const KEEPALIVE = {
  // A ping costs about 300 bytes on the wire: at 2 min and only beside an open stream, 7 MB a month. Calls don't need
  // it: each has a deadline, and a call that ran into it costs the connection.
  'grpc.keepalive_time_ms': 120_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.keepalive_permit_without_calls': 0,
  // gRPC's 2 minutes between attempts would outlast many an outage; the flows wait by themselves.
  'grpc.initial_reconnect_backoff_ms': 200,
  'grpc.min_reconnect_backoff_ms': 200,
  'grpc.max_reconnect_backoff_ms': 2_000,
  // A page of values (see client.ts) may be larger than gRPC's 4 MiB.
  'grpc.max_receive_message_length': 64 * 1_024 * 1_024,
}

/** Connects at the first call. Rejects with an `EtcdFailure` when a file of keys or secrets can't be read. */
export async function openDriver(settings: EtcdClientSettings): Promise<Etcd3> {
  const { endpoints, tls, username, passwordFile, timeoutMs } = settings
  const credentials = tls && (await readTls(tls))
  const auth = username !== undefined && { username, password: passwordFile === undefined ? '' : await readLine(passwordFile) }
  // With gRPC it is the largest of all packages, and commands that never reach etcd need none of it.
  const driver = await import('etcd3')
  return new driver.Etcd3({
    hosts: endpoints.map(({ host, port, secure }) => `${secure ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${port}`),
    ...(credentials && { credentials }),
    ...(auth && { auth }),
    grpcOptions: KEEPALIVE,
    // gRPC reads its deadlines against this very clock, at once; only the login uses this one.
    defaultCallOptions: ({ isStream }) => (isStream ? {} : { deadline: Date.now() + timeoutMs }),
    faultHandling: { global: once, host: () => once },
  })
}

async function readTls(paths: EtcdTlsSettings): Promise<NonNullable<IOptions['credentials']>> {
  const rootCertificate = paths.ca === undefined ? Buffer.from(rootCertificates.join('\n')) : await readSecret(paths.ca)
  if (paths.key === undefined || paths.cert === undefined) return { rootCertificate }
  return { rootCertificate, privateKey: await readSecret(paths.key), certChain: await readSecret(paths.cert) }
}

/** A secret is the whole file but for one line end. */
async function readLine(path: string): Promise<string> {
  return (await readSecret(path)).toString('utf8').replace(/\r?\n$/, '')
}

async function readSecret(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    throw unreadable(path, error)
  }
}
