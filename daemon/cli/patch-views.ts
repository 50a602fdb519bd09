/** What the commands on this box's patches show, and the shapes of their JSON. */
import { duration } from '../health.ts'
import { colour, printable, table } from './text.ts'

export interface PatchRow {
  readonly patch: string
  readonly kind: string | undefined
  readonly channel: string | undefined
  readonly sequence: number | undefined
  readonly state: string
  /** One sentence, without the patch's name. */
  readonly because: string
  readonly inForce: boolean
  /** When it is worth a look again by itself. */
  readonly until?: string
  /** Applied here since. */
  readonly since?: string
  /** As etcd has it, by this box. */
  readonly result?: string
  readonly attempt?: number
  /** Phase of its rollout. */
  readonly rollout?: string
  readonly stage?: number
}

export interface PatchesDocument {
  readonly schema: 1
  /** False: the daemon is down, and this is what it remembered. */
  readonly running: boolean
  /** Why what is shown may be old. */
  readonly stale?: string
  readonly patches: readonly PatchRow[]
}

export interface HistoryDocument {
  readonly schema: 1
  readonly runs: readonly {
    readonly number: number
    readonly patch: string
    readonly outcome: string
    /** The last one that was reached. */
    readonly step: string
    readonly reason?: string
    readonly attempt: number
    readonly startedAt: string
    readonly finishedAt: string
    readonly seconds: number
    readonly devices?: { readonly confirmed: number; readonly refused: number; readonly silent: number }
  }[]
}

export interface HoldDocument {
  readonly schema: 1
  readonly hold?: { readonly until: string; readonly remainingSeconds: number; readonly by: string; readonly reason: string }
}

export interface WhyDocument {
  readonly schema: 1
  readonly running: boolean
  readonly patch: string
  readonly state: string
  readonly sentence: string
}

export interface LocksDocument {
  readonly schema: 1
  readonly locks: readonly {
    readonly scope: string
    readonly place: number
    readonly gateway: string
    readonly token: number
    readonly leaseSeconds?: number
    readonly key: string
  }[]
  /** Who began and has not told how it ended: others of the scope wait for that. */
  readonly open: readonly {
    readonly scope: string
    readonly gateway: string
    readonly patch?: string
    readonly token: number
    readonly at?: string
  }[]
}

export interface BrokenDocument {
  readonly schema: 1
  readonly broken: { readonly scope: string; readonly gateway: string; readonly token: number; readonly key: string }
  readonly paused: readonly string[]
}

export function patchesView({ running, patches, stale }: PatchesDocument): string {
  const rows = patches.map((row) => [
    row.patch,
    row.channel ?? '-',
    row.sequence === undefined ? '-' : String(row.sequence),
    row.inForce ? 'yes' : 'no',
    row.state,
    short(row.because),
  ])
  const head = running ? [] : ['the daemon is down; this is what it remembers', '']
  const old = stale === undefined ? [] : ['', printable(`this may be old: ${stale}`)]
  const list = rows.length === 0 ? 'no patches' : table(['patch', 'channel', 'sequence', 'in force', 'state', ''], rows)
  return [...head, list, ...old].join('\n')
}

const WORDS_MAX = 90

/** What a program said may be long; `edgectl why patch` tells all of it. */
function short(words: string): string {
  return words.length <= WORDS_MAX ? words : `${words.slice(0, WORDS_MAX - 1)}…`
}

export function historyView({ runs }: HistoryDocument): string {
  if (runs.length === 0) return 'no patch has run on this box'
  const rows = runs.map((run) => [
    run.finishedAt,
    run.patch,
    run.outcome,
    run.step,
    duration(run.seconds * 1_000),
    `${short(run.reason ?? '')}${devicesOf(run.devices)}`,
  ])
  return table(['ended', 'patch', 'outcome', 'last step', 'took', 'reason'], rows)
}

function devicesOf(devices: HistoryDocument['runs'][number]['devices']): string {
  if (devices === undefined) return ''
  return ` (devices: ${devices.confirmed} confirmed, ${devices.refused} refused, ${devices.silent} silent)`
}

export function holdView({ hold }: HoldDocument): string {
  if (hold === undefined) return 'patches are not held on this box'
  const why = hold.reason === '' ? '' : `: ${hold.reason}`
  return printable(`no patch starts on this box until ${hold.until} (${duration(hold.remainingSeconds * 1_000)}), held by ${hold.by}${why}`)
}

export function locksView({ locks, open }: LocksDocument): string {
  const rows = locks.map((lock) => [
    lock.scope,
    lock.place,
    lock.gateway,
    String(lock.token),
    lock.leaseSeconds === undefined ? '-' : `${lock.leaseSeconds} s`,
    lock.key,
  ])
  const list = rows.length === 0 ? 'no lock is held' : table(['scope', 'place', 'gateway', 'token', 'lease', 'key'], rows)
  const starts = open.map(({ scope, gateway, patch = 'a patch', at = 'an unknown time' }) =>
    printable(`${gateway} began ${patch} under ${scope} at ${at}, and has not told yet how it ended`),
  )
  return [list, ...starts].join('\n')
}

export function brokenView({ broken, paused }: BrokenDocument): string {
  const rollouts =
    paused.length === 0
      ? 'no rollout had to be paused'
      : `paused: ${paused.join(', ')}; \`edgectl patch resume\` lets each go on, when it is known what ${broken.gateway} did`
  return printable(`${colour('bold', 'broken')}: the lock ${broken.scope} of ${broken.gateway}; ${rollouts}`)
}
