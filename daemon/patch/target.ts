/** Whom a patch reaches, and who may sign it for them. Pure. */
import type { Patch, Target } from './document.ts'
import type { KeyScope } from './signing.ts'

/** What a target is held against: of this box, or of another one as its `info` tells. */
export interface Reached {
  readonly id: string
  readonly site: string | undefined
  readonly labels: Readonly<Record<string, string>>
}

/** `undefined` when the target reaches the box, else why not, as an end of "not for this box: …". */
export function outOfReach({ all, sites, labels, gateways, exclude }: Target, box: Reached): string | undefined {
  if (exclude.includes(box.id)) return `it excludes ${box.id}`
  if (all) return undefined
  const parts = sites.length + gateways.length + Object.keys(labels).length
  if (parts === 0) return 'its target is empty'
  if (gateways.length > 0 && !gateways.includes(box.id)) return `it names other boxes than ${box.id}`
  if (sites.length > 0 && (box.site === undefined || !sites.includes(box.site)))
    return `it is for ${sites.join(', ')}, and this box ${box.site === undefined ? 'has no site' : `stands at ${box.site}`}`
  const missing = Object.entries(labels).find(([name, value]) => !Object.hasOwn(box.labels, name) || box.labels[name] !== value)
  return missing && `it is for boxes with ${missing.join(': ')}`
}

/**
 * `undefined` when one of the keys that signed may sign this patch, else why not. One key must cover the kind and all
 * sites. A key of some sites signs only targets that name sites, all of them among its own: whatever else the target
 * says can only narrow it. Every box and controller so comes to the same answer, without knowing the fleet.
 */
export function outOfScope(patch: Patch, signedBy: readonly string[], scopes: ReadonlyMap<string, KeyScope>): string | undefined {
  const reasons = signedBy.map((name) => {
    const scope = scopes.get(name)
    return scope === undefined ? `the key ${name} is not trusted any more` : beyond(patch, name, scope)
  })
  if (reasons.includes(undefined)) return undefined
  return reasons.join('; ') || 'no trusted key has signed it'
}

function beyond({ kind, target }: Patch, name: string, { kinds, sites }: KeyScope): string | undefined {
  if (!kinds.includes(kind)) return `the key ${name} may sign ${kinds.join(', ')}, not ${kind}`
  if (sites === 'all') return undefined
  if (target.all || target.sites.length === 0)
    return `the key ${name} may sign for ${sites.join(', ')} only, so that the target must name sites among these`
  const other = target.sites.find((site) => !sites.includes(site))
  return other === undefined ? undefined : `the key ${name} may sign for ${sites.join(', ')}, not for ${other}`
}
