/** The executor's own look at a signed patch: what the daemon says of it counts for nothing. Pure. */
import { createHash } from 'node:crypto'
import { GatewayError } from '../../errors.ts'
import type { FilesPatch } from '../document.ts'
import type { Accepted } from '../kinds.ts'
import { PATCH_TYPE } from '../records.ts'
import type { Documents, Envelopes, KeyScope } from '../signing.ts'
import { outOfReach, outOfScope } from '../target.ts'

/** From files that only root writes. */
export interface Believed {
  readonly envelopes: Envelopes
  readonly documents: Documents
  readonly scopes: ReadonlyMap<string, KeyScope>
  readonly fleet: string | undefined
  readonly gateway: string
  readonly site: string | undefined
}

/**
 * Throws `rejected` with the reason. Labels are not looked at: patches of kind config may set them, and what those say
 * lies with the daemon. Nor is `expires`: a box that comes late may begin after it, once the rollout has begun.
 */
export function trustedFiles(envelope: Uint8Array, believed: Believed): Accepted<FilesPatch> {
  const opened = believed.envelopes.open(envelope, PATCH_TYPE)
  if ('refused' in opened) throw refused(opened.refused)
  const patch = believed.documents.read(opened.payload)
  if ('refused' in patch) throw refused(patch.refused)
  if (patch.kind !== 'files') throw refused(`it is of kind ${patch.kind}, and only files are carried out here`)
  const { fleet, gateway, site } = believed
  const beyond = outOfScope(patch, opened.keys, believed.scopes)
  if (beyond !== undefined) throw refused(beyond)
  if (fleet !== patch.fleet) throw refused(`it is for the fleet ${patch.fleet}, and this box belongs to ${fleet ?? 'none'}`)
  const elsewhere = outOfReach(patch.target, { id: gateway, site, labels: patch.target.labels })
  if (elsewhere !== undefined) throw refused(`it is not for this box: ${elsewhere}`)
  return { patch, digest: createHash('sha256').update(envelope).digest('hex'), payload: opened.payload, envelope }
}

function refused(reason: string): GatewayError {
  const remedy = 'The executor goes by the files in /etc/edge-gateway alone; compare patches.trustedKeys, gateway.fleet, id and site there.'
  return new GatewayError('rejected', `the executor refuses the patch: ${reason}`, { remedy })
}
