/** What no single value shows: rules between the values of one patch. */
import type { Finding } from '../issues.ts'
import { type Json, isObject } from '../merge.ts'
import { fixedIn } from '../patchable.ts'
import type { Path } from '../problem.ts'
import { formatDuration, formatPercent } from '../units.ts'
import type { ParsedPatch } from './schema.ts'

type Files = Extract<ParsedPatch, { kind: 'files' }>
type Device = Extract<ParsedPatch, { kind: 'device' }>

export function* patchRules(patch: ParsedPatch): Iterable<Finding> {
  yield* target(patch)
  yield* times(patch)
  yield* otherPatches(patch)
  yield* stages(patch)
  if (patch.kind === 'config') yield* configSpec(patch.spec as Json)
  if (patch.kind === 'files') yield* artifacts(patch)
  if (patch.kind === 'device') yield* answers(patch)
}

function wrong(path: Path, message: string): Finding {
  return { severity: 'error', path, message }
}

function* target({ target: { all, sites, labels, gateways } }: ParsedPatch): Iterable<Finding> {
  const parts = [sites, labels, gateways].filter((part) => part !== undefined)
  if (labels !== undefined && Object.keys(labels).length === 0)
    yield wrong(['target', 'labels'], 'no labels would match every box; name one, or remove this key')
  if (!all && parts.length === 0)
    yield wrong(['target'], 'an empty target might be meant for no box or for all; write sites, labels or gateways, or all: true')
  if (all && parts.length > 0) yield wrong(['target', 'all'], 'all contradicts the other parts of the target; keep one of the two')
}

function* times({ notBefore, expires }: ParsedPatch): Iterable<Finding> {
  if (notBefore !== undefined && notBefore >= expires)
    yield wrong(['expires'], 'it expires before it may begin; write an instant after notBefore')
}

function* otherPatches({ id, requires, supersedes }: ParsedPatch): Iterable<Finding> {
  if (requires.includes(id)) yield wrong(['requires', requires.indexOf(id)], 'a patch cannot require itself; remove it')
  if (supersedes.includes(id)) yield wrong(['supersedes', supersedes.indexOf(id)], 'a patch cannot supersede itself; remove it')
  const both = requires.findIndex((other) => supersedes.includes(other))
  if (both >= 0) yield wrong(['requires', both], 'a patch cannot require what it supersedes; remove it from one of the two lists')
}

function* stages({ rollout }: ParsedPatch): Iterable<Finding> {
  let count = 0
  let percent = 0
  const labels = new Set<string>()
  for (const [index, stage] of rollout.stages.entries()) {
    const path = ['rollout', 'stages', index]
    const sizes = [stage.count, stage.percent, stage.labels].filter((size) => size !== undefined)
    if (sizes.length !== 1) yield wrong(path, 'a stage has one size; write count, percent or labels')
    if (stage.count !== undefined && stage.count <= count) yield wrong([...path, 'count'], `stages must grow; write more than ${count}`)
    if (stage.percent !== undefined && stage.percent <= percent)
      yield wrong([...path, 'percent'], `stages must grow; write more than ${formatPercent(percent)}`)
    const chosen = JSON.stringify(Object.entries(stage.labels ?? {}).sort())
    if (stage.labels !== undefined && Object.keys(stage.labels).length === 0)
      yield wrong([...path, 'labels'], 'no labels would match every box; write percent: 100')
    else if (stage.labels !== undefined && labels.has(chosen))
      yield wrong([...path, 'labels'], 'these labels are an earlier stage already; remove one')
    labels.add(chosen)
    count = Math.max(count, stage.count ?? 0)
    percent = Math.max(percent, stage.percent ?? 0)
  }
}

function* configSpec(spec: Json): Iterable<Finding> {
  if (!isObject(spec) || Object.keys(spec).length === 0)
    yield wrong(['spec'], 'an empty change; write the keys of the configuration file that it sets')
  for (const { key, at, why } of fixedIn(spec))
    yield wrong(['spec', ...at], `${key} cannot be changed by a patch (${why}); remove it, and change the configuration file of the box`)
  yield* references(spec, ['spec'])
}

function* references(value: Json, path: Path): Iterable<Finding> {
  if (typeof value === 'string' && value.includes('${'))
    yield wrong(path, 'a patch means the same on every box: ${…} is not replaced in it; write the value out')
  if (Array.isArray(value)) for (const [index, item] of value.entries()) yield* references(item as Json, [...path, index])
  else if (isObject(value)) for (const [key, item] of Object.entries(value)) yield* references(item, [...path, key])
}

function* artifacts({ spec }: Files): Iterable<Finding> {
  const placed = new Set<string>()
  for (const [index, artifact] of spec.artifacts.entries()) {
    const path = ['spec', 'artifacts', index]
    if (artifact.unpack === 'tar') {
      if (artifact.mode !== undefined) yield wrong([...path, 'mode'], 'a tar brings its own modes; remove this key')
      continue
    }
    if (artifact.path === undefined || artifact.path === '.')
      yield wrong(path, 'a file that is placed needs its name; write path, for example path: bin/app')
    else if ([...placed].some((other) => collide(other, artifact.path ?? '')))
      yield wrong([...path, 'path'], 'another artifact is placed there; write another path')
    else placed.add(artifact.path)
  }
}

function collide(one: string, other: string): boolean {
  return one === other || one.startsWith(`${other}/`) || other.startsWith(`${one}/`)
}

/** VERIFY waits for the answers, and ends at the deadline of the health checks. */
function* answers({ spec: { acknowledge }, health }: Device): Iterable<Finding> {
  if (acknowledge === undefined || acknowledge.deadline <= health.deadline) return
  yield wrong(
    ['spec', 'acknowledge', 'deadline'],
    `${formatDuration(acknowledge.deadline)} is longer than health.deadline (${formatDuration(health.deadline)}), which ends the wait; raise that one`,
  )
}
