/** Who is let in next. */
import { createHash } from 'node:crypto'
import type { Stage } from '../document.ts'
import { entered, targetBoxes } from './counts.ts'
import { hasLabels } from './targets.ts'
import type { BoxView, GoodView } from './view.ts'

/** `wait`: nobody can be let in now, and the stage would be done without anybody. */
export type Choice = { readonly gateways: readonly string[] } | { readonly wait: string }

/**
 * The boxes of the target that are online and not in yet, up to the stage's total, by a hash of patch and box: so
 * that not always the same box is the first. Empty only when the total was reached before.
 */
export function chooseCohort(view: GoodView, stage: Stage): Choice {
  const targets = targetBoxes(view)
  if (targets.length === 0) return { wait: 'no known gateway matches the target' }
  const before = new Set(entered(view))
  const { missing, free } = 'labels' in stage.size ? byLabels(targets, before, stage.size.labels) : byTotal(targets, before, stage.size)
  if (missing === 'unknown') return { wait: 'no known gateway of the target has the labels of the next stage' }
  if (missing === 0) return { gateways: [] }
  const online = free.filter((box) => box.online)
  if (online.length === 0) return { wait: 'no gateway of the next stage is online' }
  return { gateways: inOrder(view.id, online).slice(0, missing) }
}

interface Places {
  readonly missing: number | 'unknown'
  readonly free: readonly BoxView[]
}

function byLabels(targets: readonly BoxView[], before: ReadonlySet<string>, labels: Readonly<Record<string, string>>): Places {
  const wanted = targets.filter((box) => hasLabels(labels, box))
  const free = wanted.filter(({ gateway }) => !before.has(gateway))
  return { missing: wanted.length === 0 ? 'unknown' : free.length, free }
}

function byTotal(
  targets: readonly BoxView[],
  before: ReadonlySet<string>,
  size: { readonly count: number } | { readonly fraction: number },
): Places {
  const total = 'count' in size ? size.count : Math.ceil(Number((size.fraction * targets.length).toFixed(6)))
  const free = targets.filter(({ gateway }) => !before.has(gateway))
  return { missing: Math.max(0, Math.min(total - before.size, free.length)), free }
}

function inOrder(patch: string, boxes: readonly BoxView[]): string[] {
  const place = (gateway: string): string => createHash('sha256').update(`${patch}\0${gateway}`).digest('hex')
  const places = boxes.map(({ gateway }) => ({ gateway, at: place(gateway) }))
  return places.sort((left, right) => (left.at < right.at ? -1 : 1)).map(({ gateway }) => gateway)
}
