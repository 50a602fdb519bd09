/** ed25519 (RFC 8032) by Node's own crypto. Public keys are their 32 bytes in base64. */
import { createHash, createPublicKey, verify as verifyBytes } from 'node:crypto'
import type { KeyObject } from 'node:crypto'

/** `undefined` when the text is no canonical base64 of 32 bytes. */
export function publicKeyOf(base64: string): KeyObject | undefined {
  const raw = canonicalBase64(base64, 32)
  if (raw === undefined) return undefined
  return createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url') }, format: 'jwk' })
}

/** The public half as it stands in `patches.trustedKeys`. */
export function publicTextOf(key: KeyObject): string {
  const { x = '' } = (key.type === 'private' ? createPublicKey(key) : key).export({ format: 'jwk' })
  return Buffer.from(x, 'base64url').toString('base64')
}

/** First 16 hex digits of the sha256 of the public key's 32 bytes: a hint which key signed, never a proof. */
export function keyIdOf(publicText: string): string {
  return createHash('sha256').update(Buffer.from(publicText, 'base64')).digest('hex').slice(0, 16)
}

export function isSigned(message: Uint8Array, signature: Uint8Array, key: KeyObject): boolean {
  return verifyBytes(null, message, key, signature)
}

/** The bytes, if the text is their one canonical spelling (RFC 4648 section 4, padded, no stray bits). */
export function canonicalBase64(text: unknown, length?: number): Buffer | undefined {
  if (typeof text !== 'string') return undefined
  const bytes = Buffer.from(text, 'base64')
  return bytes.toString('base64') === text && (length === undefined || bytes.length === length) ? bytes : undefined
}
