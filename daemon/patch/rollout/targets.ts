import type { Target } from '../document.ts'
import { outOfReach } from '../target.ts'

export interface Addressee {
  readonly gateway: string
  readonly site: string | null
  readonly labels: Readonly<Record<string, string>>
}

export function isTarget(target: Target, { gateway, site, labels }: Addressee): boolean {
  return outOfReach(target, { id: gateway, site: site ?? undefined, labels }) === undefined
}

export function hasLabels(wanted: Readonly<Record<string, string>>, { labels }: Addressee): boolean {
  return Object.entries(wanted).every(([name, value]) => Object.hasOwn(labels, name) && labels[name] === value)
}
