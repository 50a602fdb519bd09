/** DSSE envelopes, https://github.com/secure-systems-lab/dsse protocol and envelope v1.0.2. */
import { sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import type { Envelopes, Opened } from '../../daemon/patch/signing.ts'
import { canonicalBase64, isSigned, keyIdOf, publicKeyOf, publicTextOf } from './keys.ts'

const PAYLOAD_BYTES_MAX = 256 * 1024
const SIGNATURES_MAX = 16
/** Base64 of the largest payload, and room for the signatures. */
const ENVELOPE_BYTES_MAX = (PAYLOAD_BYTES_MAX * 4) / 3 + 16_384
const SIGNATURE_BYTES = 64

interface Signature {
  readonly keyid: string | undefined
  readonly sig: Buffer
}

export interface Envelope {
  readonly type: string
  readonly payload: Buffer
  readonly signatures: readonly Signature[]
}

/** Pre-authentication encoding: what is signed. Lengths in bytes, decimal. */
export function pae(type: string, payload: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`DSSEv1 ${Buffer.byteLength(type)} ${type} ${payload.length} `), payload])
}

/** Takes the envelope apart and verifies nothing; a sentence when it is none. Unknown members are passed over, as DSSE asks. */
export function readEnvelope(bytes: Uint8Array): Envelope | string {
  if (bytes.length > ENVELOPE_BYTES_MAX) return `${bytes.length} bytes are too many for a signed envelope; at most ${ENVELOPE_BYTES_MAX}`
  const parsed = parsedJson(bytes)
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return 'it is no signed envelope (DSSE)'
  const { payloadType: type, payload: encoded, signatures: listed } = parsed as Readonly<Record<string, unknown>>
  if (typeof type !== 'string' || type.length > 200) return 'the envelope has no payloadType'
  const payload = canonicalBase64(encoded)
  if (payload === undefined) return 'the payload of the envelope is no canonical base64'
  if (payload.length > PAYLOAD_BYTES_MAX) return `the payload has ${payload.length} bytes; at most ${PAYLOAD_BYTES_MAX}`
  if (!Array.isArray(listed) || listed.length === 0) return 'the envelope has no signatures'
  if (listed.length > SIGNATURES_MAX) return `the envelope has ${listed.length} signatures; at most ${SIGNATURES_MAX}`
  const signatures = listed.map(readSignature)
  return signatures.every((one) => one !== undefined) ? { type, payload, signatures } : 'a signature of the envelope cannot be read'
}

function parsedJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes))
  } catch {
    return undefined
  }
}

function readSignature(value: unknown): Signature | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { keyid, sig } = value as Readonly<Record<string, unknown>>
  const bytes = canonicalBase64(sig, SIGNATURE_BYTES)
  if (bytes === undefined || (keyid !== undefined && (typeof keyid !== 'string' || keyid.length > 200))) return undefined
  return { keyid: keyid === '' ? undefined : keyid, sig: bytes }
}

/** A new envelope with one signature. */
export function seal(type: string, payload: Uint8Array, privateKey: KeyObject): Envelope {
  return addSignature({ type, payload: Buffer.from(payload), signatures: [] }, privateKey)
}

/** Takes the place of an earlier signature by the same key. */
export function addSignature(envelope: Envelope, privateKey: KeyObject): Envelope {
  const keyid = keyIdOf(publicTextOf(privateKey))
  const sig = sign(null, pae(envelope.type, envelope.payload), privateKey)
  return { ...envelope, signatures: [...envelope.signatures.filter((other) => other.keyid !== keyid), { keyid, sig }] }
}

/** One line, without a line end. */
export function envelopeText({ type, payload, signatures }: Envelope): string {
  return JSON.stringify({
    payloadType: type,
    payload: payload.toString('base64'),
    signatures: signatures.map(({ keyid, sig }) => ({ ...(keyid === undefined ? {} : { keyid }), sig: sig.toString('base64') })),
  })
}

interface TrustedKey {
  readonly name: string
  readonly keyid: string
  readonly key: KeyObject
}

/** Verifies by a set of trusted keys, given by name with their 32 bytes in base64. Several make a rotation possible. */
export class TrustedEnvelopes implements Envelopes {
  readonly #keys: readonly TrustedKey[]

  constructor(keys: Readonly<Record<string, string>>) {
    this.#keys = Object.entries(keys).flatMap(([name, text]) => {
      const key = publicKeyOf(text)
      return key === undefined ? [] : [{ name, keyid: keyIdOf(text), key }]
    })
  }

  open(bytes: Uint8Array, type: string): Opened {
    const envelope = readEnvelope(bytes)
    if (typeof envelope === 'string') return { refused: envelope }
    if (envelope.type !== type) return { refused: `the envelope holds ${JSON.stringify(envelope.type)} where ${type} belongs` }
    const message = pae(envelope.type, envelope.payload)
    const keys = this.#keys.filter((trusted) =>
      envelope.signatures.some((signature) => isHinted(signature, trusted) && isSigned(message, signature.sig, trusted.key)),
    )
    if (keys.length > 0) return { payload: envelope.payload, keys: keys.map(({ name }) => name) }
    const known = envelope.signatures.some((signature) => this.#keys.some((trusted) => isHinted(signature, trusted)))
    return { refused: known ? 'no signature fits what was signed' : this.#unknown(envelope) }
  }

  #unknown({ signatures }: Envelope): string {
    const ids = signatures.map(({ keyid }) => JSON.stringify(keyid ?? '')).join(', ')
    return `it is signed by ${ids}, and patches.trustedKeys has none of these keys (${this.#keys.map(({ name }) => name).join(', ') || 'it is empty'})`
  }
}

/** Without a keyid every key is tried: the hint saves time and decides nothing. */
function isHinted({ keyid }: Signature, trusted: TrustedKey): boolean {
  return keyid === undefined || keyid === trusted.keyid || keyid === trusted.name
}
