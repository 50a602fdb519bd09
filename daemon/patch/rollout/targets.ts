/** For whom a patch is. Names are compared as they are written. */
import type { Target } from '../document.ts'

export interface Addressee {
  readonly gateway: string
  readonly site: string | null
  readonly labels: Readonly<Record<string, string>>
}

/** Every part that is given must hold; `exclude` wins over everything. */
export function isTarget(target: Target, box: Addressee): boolean {
  if (target.exclude.includes(box.gateway)) return false
  if (target.all) return true
  const { sites, gateways, labels } = target
  if (sites.length === 0 && gateways.length === 0 && Object.keys(labels).length === 0) return false
  const isSite = sites.length === 0 || (box.site !== null && sites.includes(box.site))
  return isSite && (gateways.length === 0 || gateways.includes(box.gateway)) && hasLabels(labels, box)
}

export function hasLabels(wanted: Readonly<Record<string, string>>, { labels }: Addressee): boolean {
  return Object.entries(wanted).every(([name, value]) => Object.hasOwn(labels, name) && labels[name] === value)
}
