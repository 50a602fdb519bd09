import { X509Certificate } from 'node:crypto'
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'

const CHAIN_MAX = 8

/**
 * Tells whether the certificate that a peer showed leads to one of these CA certificates. True for a peer without TLS
 * or without a certificate: whether one is needed was decided at the handshake.
 */
export function signedBy(caPem: Buffer): (socket: Socket) => boolean {
  const trusted = certificatesOf(caPem)
  return (socket) => {
    const leaf = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined
    return leaf === undefined || leadsTo(trusted, leaf)
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
