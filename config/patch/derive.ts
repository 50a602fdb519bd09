import type { Patch, PatchStage, PatchTarget } from './document.ts'
import type { JsonObject } from '../merge.ts'
import type { ParsedPatch } from './schema.ts'

type Stage = ParsedPatch['rollout']['stages'][number]
type Hook = Extract<ParsedPatch, { kind: 'files' }>['spec']['running']
type FilesParsed = Extract<ParsedPatch, { kind: 'files' }>['spec']
type DeviceParsed = Extract<ParsedPatch, { kind: 'device' }>['spec']

/** Names with units, and defaults that depend on other values. The document must have passed all rules. */
export function derivePatch(parsed: ParsedPatch): Patch {
  const { id, fleet, channel, sequence, notBefore, expires, requires, supersedes, health, rollout, window } = parsed
  const base = {
    ...{ id, fleet, channel, sequence, notBefore, expires, requires, supersedes },
    target: deriveTarget(parsed.target),
    health: { checks: health.checks, consecutive: health.consecutive, deadlineMs: health.deadline, bakeMs: health.bake },
    rollout: {
      stages: rollout.stages.map(deriveStage),
      concurrency: { scope: rollout.concurrency.scope ?? channel, slots: rollout.concurrency.slots },
      maxFailures: rollout.maxFailures.count,
      onFailure: rollout.onFailure,
    },
    window: window && { timezone: window.timezone, cron: window.cron, durationMs: window.duration },
  }
  if (parsed.kind === 'config') return { ...base, kind: 'config', spec: parsed.spec as JsonObject }
  if (parsed.kind === 'files') return { ...base, kind: 'files', spec: deriveFiles(parsed.spec) }
  return { ...base, kind: 'device', spec: deriveDevice(parsed.spec) }
}

function deriveTarget({ all, sites, labels, gateways, exclude }: ParsedPatch['target']): PatchTarget {
  return { all, sites: sites ?? [], labels: labels ?? {}, gateways: gateways ?? [], exclude: exclude ?? [] }
}

function deriveStage({ count, percent, labels, bake, minDone }: Stage): PatchStage {
  return { size: sizeOf(count, percent, labels), bakeMs: bake, minDone }
}

function sizeOf(count: Stage['count'], percent: Stage['percent'], labels: Stage['labels']): PatchStage['size'] {
  if (count !== undefined) return { count }
  if (labels !== undefined) return { labels }
  return { fraction: percent ?? 1 }
}

function deriveFiles({ owner, running, hooks, artifacts, ...rest }: FilesParsed): Extract<Patch, { kind: 'files' }>['spec'] {
  return {
    ...rest,
    owner,
    running: deriveHook(running),
    hooks: Object.fromEntries(Object.entries(hooks).flatMap(([name, hook]) => (hook === undefined ? [] : [[name, deriveHook(hook)]]))),
    artifacts: artifacts.map((artifact) => ({ ...artifact, path: artifact.path ?? '.', mode: artifact.mode })),
  }
}

function deriveHook(hook: Hook): { command: readonly string[]; timeoutMs: number } | undefined {
  return hook && { command: hook.command, timeoutMs: hook.timeout }
}

function deriveDevice({ devices, source, topic, payload, acknowledge }: DeviceParsed): Extract<Patch, { kind: 'device' }>['spec'] {
  return {
    ...{ devices, source, topic, payload },
    acknowledge: acknowledge && { topic: acknowledge.topic, minDone: acknowledge.minDone, deadlineMs: acknowledge.deadline },
  }
}
