/** What the patch path needs of signatures and documents, and nothing of how they are made. */
import type { Patch } from './document.ts'

/** Payload type of the records that a box signs (results, applied). */
export const RECORD_TYPE = 'application/vnd.edge-gateway.record+json'

/** The verified payload with the names of all trusted keys that signed it, or why it is not believed. */
export type Opened = { readonly payload: Uint8Array; readonly keys: readonly string[] } | { readonly refused: string }

export interface Envelopes {
  /** Verifies a DSSE envelope (secure-systems-lab/dsse v1.0.2) of this payload type before anything in it is parsed. Never throws. */
  open(bytes: Uint8Array, type: string): Opened
}

export interface Documents {
  /** The patch in a verified payload, or what is wrong with it. Never throws. */
  read(payload: Uint8Array): Patch | { readonly refused: string }
}

/** A signed record without its signature, or why it is not believed. */
export type VerifiedRecord = { readonly record: unknown } | { readonly refused: string }

export interface BoxKey {
  /** ed25519, 32 bytes, base64. */
  readonly publicKey: string
  /** One line of JSON whose last member is `signature`. The object has at least one member, and none of that name. */
  signRecord(record: object): Uint8Array
  /** Of any box, by the public key of its identity. Never throws. */
  verifyRecord(bytes: Uint8Array, publicKey: string): VerifiedRecord
}

/** What a trusted key may sign (`patches.trustedKeys`). */
export interface KeyScope {
  readonly kinds: readonly Patch['kind'][]
  readonly sites: 'all' | readonly string[]
}
