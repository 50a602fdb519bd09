/** The key of an operator, and what the gateways will say of its signature. */
import type { KeyObject } from 'node:crypto'
import { type Envelope, envelopeText, TrustedEnvelopes } from '../../../adapters/signing/dsse.ts'
import { readPrivateKey } from '../../../adapters/signing/files.ts'
import { publicTextOf } from '../../../adapters/signing/keys.ts'
import { GatewayError } from '../../errors.ts'
import type { Patch } from '../../patch/document.ts'
import { outOfScope } from '../../patch/target.ts'
import type { FleetLink } from '../fleet-link.ts'

export function signingKey(file: string): KeyObject {
  const key = readPrivateKey(file)
  if (key !== undefined) return key
  throw new GatewayError('rejected', `there is no key ${file}`, { remedy: `edgectl patch keygen --out ${file}` })
}

/** By the trusted keys of this configuration, else by the given key alone. Throws `rejected` with the reason; false when neither is known. */
export function assertBelieved({ trust, verifies }: FleetLink, patch: Patch, envelope: Envelope, key?: KeyObject): boolean {
  const bytes = Buffer.from(envelopeText(envelope))
  if (verifies) {
    const opened = trust.envelopes.open(bytes, envelope.type)
    const wrong = 'refused' in opened ? opened.refused : outOfScope(patch, opened.keys, trust.scopes)
    if (wrong !== undefined) throw disbelieved(patch, wrong)
  } else if (key !== undefined) {
    const opened = new TrustedEnvelopes({ 'the given key': publicTextOf(key) }).open(bytes, envelope.type)
    if ('refused' in opened) throw disbelieved(patch, opened.refused)
  }
  return verifies || key !== undefined
}

function disbelieved({ id }: Patch, why: string): GatewayError {
  return new GatewayError('rejected', `the gateways would not believe this order about ${id}: ${why}`, {
    remedy: 'sign it with a key that patches.trustedKeys has for its kind and sites; `edgectl patch keygen` makes one',
  })
}
