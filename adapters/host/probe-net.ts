/** How far we get to a peer: its name, TCP, TLS. Each step alone, so that the one that fails is named. */
import { lookup } from 'node:dns/promises'
import { readFile } from 'node:fs/promises'
import { connect as connectTcp, isIP, type Socket } from 'node:net'
import { connect as connectTls, type PeerCertificate, type TLSSocket } from 'node:tls'
import { step } from './probe-step.ts'
import type { Reach, Step, TlsFound } from '../../daemon/doctor/facts.ts'

export interface Peer {
  readonly host: string
  readonly port: number
  /** Absent: no TLS. Paths of PEM files; without `ca` Node's authorities count. */
  readonly tls?: { readonly ca: string | undefined; readonly cert: string | undefined; readonly key: string | undefined } | undefined
}

/** Never rejects. Each step takes at most `timeoutMs`. */
export async function reach(peer: Peer, timeoutMs: number): Promise<Reach> {
  const { host, port } = peer
  const dns = isIP(host) === 0 ? await resolve(host, timeoutMs) : undefined
  const named = { host, port, ...(dns && { dns }) }
  if (dns?.ok === false) return named
  const tcp = await reachTcp(host, port, timeoutMs)
  if (!tcp.ok || peer.tls === undefined) return { ...named, tcp }
  return { ...named, tcp, tls: await shakeHands(peer, timeoutMs) }
}

function resolve(host: string, timeoutMs: number): Promise<Step<{ readonly addresses: readonly string[] }>> {
  return step(timeoutMs, async () => ({ addresses: (await lookup(host, { all: true })).map(({ address }) => address) }))
}

function reachTcp(host: string, port: number, timeoutMs: number): Promise<Step<{ readonly address: string }>> {
  let socket: Socket | undefined
  const attempt = (): Promise<{ readonly address: string }> =>
    new Promise((resolve, reject) => {
      socket = connectTcp({ host, port })
      socket.once('connect', () => resolve({ address: socket?.remoteAddress ?? host }))
      socket.on('error', reject)
    })
  return step(timeoutMs, attempt, () => socket?.destroy())
}

/** The certificate is read whether or not it is trusted: what is wrong with it must be said with its figures. */
function shakeHands({ host, port, tls }: Peer, timeoutMs: number): Promise<Step<TlsFound>> {
  let socket: TLSSocket | undefined
  const attempt = async (): Promise<TlsFound> => {
    const [ca, cert, key] = await Promise.all(
      [tls?.ca, tls?.cert, tls?.key].map(async (path) => (path === undefined ? undefined : readFile(path))),
    )
    return new Promise((resolve, reject) => {
      socket = connectTls({
        host,
        port,
        ...(isIP(host) === 0 ? { servername: host } : {}),
        minVersion: 'TLSv1.2',
        rejectUnauthorized: false,
        ...(ca && { ca }),
        ...(cert && { cert }),
        ...(key && { key }),
      })
      socket.once('secureConnect', () => (socket === undefined ? undefined : resolve(found(socket))))
      socket.on('error', reject)
      socket.once('close', () =>
        reject(Object.assign(new Error('the peer closed the connection during the TLS handshake'), { code: 'ECONNRESET' })),
      )
    })
  }
  return step(timeoutMs, attempt, () => socket?.destroy())
}

function found(socket: TLSSocket): TlsFound {
  const certificate: Partial<PeerCertificate> = socket.getPeerCertificate()
  // A code, for all that the types say.
  const fault = socket.authorizationError as Error | string | null | undefined
  return {
    protocol: socket.getProtocol() ?? 'TLS',
    ...(fault ? { fault: typeof fault === 'string' ? fault : ((fault as NodeJS.ErrnoException).code ?? fault.message) } : {}),
    subject: nameOf(certificate.subject),
    issuer: nameOf(certificate.issuer),
    names: certificate.subjectaltname ?? '',
    validFromMs: Date.parse(certificate.valid_from ?? ''),
    validToMs: Date.parse(certificate.valid_to ?? ''),
  }
}

function nameOf(name: PeerCertificate['subject'] | undefined): string {
  const text = name?.CN ?? name?.O
  return text === undefined ? '(no name)' : String(text)
}
