import { X509Certificate } from 'node:crypto'
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { revokedSerials } from './tls-crl.ts'
import type { TlsMaterial } from './tls.ts'

const CHAIN_MAX = 8

/**
 * Tells whether the certificate that a peer showed still lets it in: it leads to one of the CA certificates, and is
 * not revoked. True for a peer without TLS or without a certificate: whether one is needed was decided at the
 * handshake.
 */
export function stillTrusted({ ca, crl }: TlsMaterial): (socket: Socket) => boolean {
  const trusted = ca === undefined ? undefined : certificatesOf(ca)
  const revoked = crl === undefined ? new Set<string>() : revokedSerials(crl)
  return (socket) => {
    const leaf = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined
    if (leaf === undefined) return true
    return !revoked.has(leaf.serialNumber.toUpperCase().replace(/^(00)+(?=..)/, '')) && (trusted === undefined || leadsTo(trusted, leaf))
  }
}

function leadsTo(trusted: readonly X509Certificate[], leaf: X509Certificate): boolean {
  let certificate: X509Certificate | undefined = leaf
  for (let depth = 0; certificate !== undefined && depth < CHAIN_MAX; depth++) {
    const current: X509Certificate = certificate
    if (trusted.some((ca) => current.checkIssued(ca) && current.verify(ca.publicKey))) return true
    certificate = current.issuerCertificate
  }
  return false
}

function certificatesOf(pem: Buffer): X509Certificate[] {
  const blocks = pem.toString('latin1').match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  return blocks.map((block) => new X509Certificate(block))
}
