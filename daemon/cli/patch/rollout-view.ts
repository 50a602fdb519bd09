/** A rollout for people: one line, or one screen. */
import type { Decision, RolloutPhase } from '../../patch/records.ts'
import { colour, printable, table } from '../text.ts'
import type { RolloutLine, Rollouts } from './looking.ts'

const TONES: Readonly<Partial<Record<RolloutPhase, 'green' | 'yellow' | 'red'>>> = {
  completed: 'green',
  running: 'yellow',
  waiting: 'yellow',
  paused: 'red',
  refused: 'red',
  'rolling-back': 'red',
  'rolled-back': 'red',
}
const FAILURES_SHOWN = 10
const DECISIONS_SHOWN = 5

export function listView({ rollouts, unreadable }: Rollouts): string {
  if (rollouts.length === 0)
    return ['no patch was pushed yet; `edgectl patch push FILE` does it', ...unreadableLines(unreadable)].join('\n')
  const rows = rollouts.map((line) => [line.patch, line.phase, stageText(line), countsText(line), line.waitsFor[0] ?? line.reason])
  return [table(['patch', 'phase', 'stage', 'gateways', ''], rows), ...unreadableLines(unreadable)].join('\n')
}

export function rolloutScreen(line: RolloutLine): string {
  const head = `${colour(TONES[line.phase] ?? 'dim', colour('bold', line.phase.toUpperCase()))}: ${line.patch}: ${printable(line.reason)}`
  const about = line.kind === undefined ? [] : [`  ${line.kind}, channel ${line.channel ?? ''}, sequence ${line.sequence ?? ''}`]
  const waits = line.waitsFor.map((sentence) => printable(`  waits for  ${sentence}`))
  return [head, ...about, ...waits, ...stageTable(line), ...failureLines(line), ...decisionLines(line.decisions)].join('\n')
}

/** For a log: `running, stage 2 of 3: 1 of 2 done, 1 applying`. */
export function changeLine(line: RolloutLine): string {
  const waits = line.waitsFor.length === 0 ? '' : `; waits for ${line.waitsFor.join(', ')}`
  return printable(`${line.patch} ${line.phase}, stage ${stageText(line)}: ${countsText(line)}; ${line.reason}${waits}`)
}

function stageText({ stages }: RolloutLine): string {
  const begun = stages.filter(({ state }) => state !== 'not begun').length
  return stages.length === 0 ? '-' : `${begun} of ${stages.length}`
}

function countsText({ stages, gateways }: RolloutLine): string {
  const sum = { done: 0, applying: 0, failed: 0, inconclusive: 0 }
  for (const { counts } of stages) for (const name of NAMES) sum[name] += counts[name]
  const others = NAMES.filter((name) => name !== 'done' && sum[name] > 0).map((name) => `, ${sum[name]} ${name}`)
  return `${sum.done} of ${gateways} done${others.join('')}`
}

const NAMES = ['done', 'applying', 'failed', 'inconclusive'] as const

function stageTable({ stages }: RolloutLine): string[] {
  if (stages.length === 0) return []
  const rows = stages.map(({ number, state, counts, offline }) => [
    String(number),
    state,
    ...[counts.cohort, counts.done, counts.applying, counts.failed, counts.inconclusive, counts.pending, offline],
  ])
  return ['', table(['stage', 'state', 'gateways', 'done', 'applying', 'failed', 'inconclusive', 'pending', 'offline'], rows)]
}

function failureLines({ failures, maxFailures }: RolloutLine): string[] {
  if (failures.length === 0) return []
  const shown = failures.slice(0, FAILURES_SHOWN).map(({ gateway, kind, reason }) => printable(`  ${gateway} ${kind}: ${reason}`))
  const more = failures.length > shown.length ? [`  and ${failures.length - shown.length} more; --json lists them`] : []
  return ['', `failures (${failures.length}, ${maxFailures} may fail)`, ...shown, ...more]
}

function decisionLines(decisions: readonly Decision[]): string[] {
  if (decisions.length === 0) return []
  const shown = decisions
    .slice(-DECISIONS_SHOWN)
    .map(({ at, decided, because }) => printable(`  ${String(at)}  ${String(decided)}: ${String(because)}`))
  return ['', 'last decisions', ...shown]
}

function unreadableLines(unreadable: ReadonlyMap<string, string>): string[] {
  const lines = [...unreadable].slice(0, FAILURES_SHOWN).map(([key, why]) => printable(`  ${key}: ${why}`))
  return lines.length === 0 ? [] : ['', `${unreadable.size} keys in etcd can't be used:`, ...lines]
}
