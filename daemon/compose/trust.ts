/** Whom this configuration believes, and for what. */
import { verifyRecord } from '../../adapters/signing/box-key.ts'
import { TrustedEnvelopes } from '../../adapters/signing/dsse.ts'
import { parsePatchPayload } from '../../config/patch/parse.ts'
import type { Settings } from '../../config/settings.ts'
import { messageOf } from '../errors.ts'
import type { Trust } from '../patch/rollout/reader.ts'
import type { Documents } from '../patch/signing.ts'

export const documents: Documents = {
  read(payload) {
    try {
      return parsePatchPayload(payload)
    } catch (error) {
      return { refused: messageOf(error) }
    }
  },
}

export function trustOf({ patches, gateway }: Pick<Settings, 'patches' | 'gateway'>): Trust {
  const keys = Object.entries(patches.trustedKeys)
  const envelopes = new TrustedEnvelopes(Object.fromEntries(keys.map(([name, { ed25519 }]) => [name, ed25519])))
  return { envelopes, documents, scopes: new Map(keys), fleet: gateway.fleet, verifyRecord }
}
