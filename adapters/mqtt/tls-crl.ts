/** ASN.1 tags that occur in a revocation list (X.690). */
const Tag = { INTEGER: 0x02, SEQUENCE: 0x30 } as const

interface Element {
  readonly tag: number
  readonly content: Buffer
  readonly end: number
}

/**
 * Serial numbers that a PEM revocation list names (RFC 5280 section 5.1), upper-case hex as `X509Certificate` has
 * them. OpenSSL reads the list for new handshakes; sessions that are open have to be looked up by hand. Throws when
 * it is no revocation list.
 */
export function revokedSerials(pem: Buffer): ReadonlySet<string> {
  const blocks = [...pem.toString('latin1').matchAll(/-----BEGIN X509 CRL-----([^-]+)-----END X509 CRL-----/g)]
  if (blocks.length === 0) throw new Error('the revocation list file holds no PEM revocation list')
  return new Set(blocks.flatMap(([, base64 = '']) => serialsOf(Buffer.from(base64, 'base64'))))
}

function serialsOf(der: Buffer): string[] {
  const list = childrenOf(elementAt(der, 0).content)[0]
  if (list?.tag !== Tag.SEQUENCE) throw new Error('the revocation list is malformed')
  // version, signature, issuer, thisUpdate, nextUpdate and the extensions are never a sequence of sequences that
  // begin with an integer; revokedCertificates is nothing else.
  const revoked = childrenOf(list.content)
    .slice(2)
    .map(({ tag, content }) => (tag === Tag.SEQUENCE ? entriesOf(content) : []))
  return revoked.flat()
}

function entriesOf(content: Buffer): string[] {
  return childrenOf(content).flatMap((entry) => {
    const serial = entry.tag === Tag.SEQUENCE ? childrenOf(entry.content)[0] : undefined
    return serial?.tag === Tag.INTEGER ? [hexOf(serial.content)] : []
  })
}

function hexOf(integer: Buffer): string {
  const hex = integer
    .toString('hex')
    .toUpperCase()
    .replace(/^(00)+(?=..)/, '')
  return hex
}

function childrenOf(content: Buffer): Element[] {
  const children: Element[] = []
  for (let at = 0; at < content.length;) {
    const child = elementAt(content, at)
    children.push(child)
    at = child.end
  }
  return children
}

function elementAt(bytes: Buffer, at: number): Element {
  const malformed = new Error('the revocation list is malformed')
  const [tag, first] = [bytes[at], bytes[at + 1]]
  if (tag === undefined || first === undefined) throw malformed
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f
  if (lengthBytes > 4 || at + 2 + lengthBytes > bytes.length) throw malformed
  const length = lengthBytes === 0 ? first : bytes.readUIntBE(at + 2, lengthBytes)
  const start = at + 2 + lengthBytes
  if (first === 0x80 || start + length > bytes.length) throw malformed
  return { tag, content: bytes.subarray(start, start + length), end: start + length }
}
