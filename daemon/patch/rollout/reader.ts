/** Documents and controls as this fleet's trusted keys vouch for them. */
import { createHash } from 'node:crypto'
import { readSpec } from '../admit.ts'
import { controlOf } from '../control.ts'
import type { KeyValue } from '../ports.ts'
import type { BoxKey, Documents, Envelopes, KeyScope } from '../signing.ts'
import { outOfScope } from '../target.ts'
import type { RolloutReader } from './fleet.ts'
import type { SpecSeen } from './view.ts'

export interface Trust {
  readonly envelopes: Envelopes
  readonly documents: Documents
  readonly scopes: ReadonlyMap<string, KeyScope>
  /** `gateway.fleet`. */
  readonly fleet: string | undefined
  /** Somebody who only looks may belong to no fleet, and see all of them. */
  readonly anyFleet?: boolean
  /** Without it, whatever stands under a box's name is taken for its own word. */
  readonly verifyRecord?: BoxKey['verifyRecord']
}

/** Keeps what it has verified, by the entry itself: a mirror hands out the same one as long as nothing changed. */
export function trustingReader(trust: Trust): RolloutReader {
  const verified = new WeakMap<KeyValue, SpecSeen>()
  return {
    spec(entry) {
      const seen = verified.get(entry) ?? verify(entry, trust)
      verified.set(entry, seen)
      return seen
    },
    control: (patch, entry, slowedAt) => controlOf(entry, { patch, slowedAt, envelopes: trust.envelopes, scopes: trust.scopes }),
    ...(trust.verifyRecord !== undefined && { isSignedBy: signatures(trust.verifyRecord) }),
  }
}

/** Each checked once. */
function signatures(verifyRecord: BoxKey['verifyRecord']): (entry: KeyValue, publicKey: string) => boolean {
  const checked = new WeakMap<KeyValue, { readonly publicKey: string; readonly ok: boolean }>()
  return (entry, publicKey) => {
    const known = checked.get(entry)
    if (known?.publicKey === publicKey) return known.ok
    const ok = 'record' in verifyRecord(entry.value, publicKey)
    checked.set(entry, { publicKey, ok })
    return ok
  }
}

function verify(entry: KeyValue, { envelopes, documents, scopes, fleet, anyFleet = false }: Trust): SpecSeen {
  const digest = createHash('sha256').update(entry.value).digest('hex')
  const spec = readSpec(entry, envelopes, documents)
  if ('refused' in spec) return { refused: spec.refused, digest }
  const { patch, signedBy } = spec
  if (patch.fleet !== fleet && !anyFleet) {
    return { refused: `it is for the fleet ${patch.fleet}, and this controller belongs to ${fleet ?? 'none'}`, digest }
  }
  const beyond = outOfScope(patch, signedBy, scopes)
  return beyond === undefined ? { patch, digest } : { refused: beyond, digest }
}
