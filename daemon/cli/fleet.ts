import type { Command } from 'commander'
import { GatewayError } from '../errors.ts'
import { duration } from '../health.ts'
import { readIdentity } from '../patch/codec.ts'
import type { KeyValue } from '../patch/ports.ts'
import { ALIVE_WITHIN_MS, keys } from '../patch/records.ts'
import { readAliveAt } from '../patch/rollout/values.ts'
import { type GatewayRow, rowOf } from './fleet-row.ts'
import { auditOf, type FleetLink, withFleet } from './fleet-link.ts'
import { show } from './figures.ts'
import { only, writeInView } from './patch/written.ts'
import { colour, printable, table } from './text.ts'

export function fleetCommand(program: Command): void {
  const fleet = program
    .command('fleet')
    .description('the gateways as etcd knows them: who is there, what is in force, how patches went')
    .addHelpText('after', '\nExample:\n  edgectl fleet\n  edgectl fleet release gw-007 --reason "board replaced"')
    .action(() => withFleet(program, (link) => list(program, link)))
  fleet
    .command('release')
    .description('take the identity from an id, so that a replaced board or a re-imaged box may have it')
    .argument('<id>', 'the gateway')
    .option('--reason <text>', 'why, for the record')
    .addHelpText('after', '\nExample:\n  edgectl fleet release gw-007 --reason "board replaced"')
    .action((id: string, { reason }: { readonly reason?: string }) => withFleet(program, (link) => release(program, link, id, reason)))
}

async function list(program: Command, link: FleetLink): Promise<void> {
  const rows: GatewayRow[] = []
  for await (const row of rowsOf(link)) rows.push(row)
  const counted = (state: GatewayRow['state']): number => rows.filter((row) => row.state === state).length
  const counts = { online: counted('online'), offline: counted('offline'), unknown: counted('unknown') }
  show(program, { schema: 1, counts, gateways: rows }, view(rows, counts, link.clock.wallMs()))
  if (rows.some(({ doubts }) => doubts.length > 0)) process.exitCode = 1
}

/** Holds the values of one gateway at a time: a fleet of ten thousand has some hundred megabytes of them. */
async function* rowsOf({ etcd, clock }: FleetLink): AsyncGenerator<GatewayRow> {
  let current: { readonly id: string; readonly parts: Map<string, KeyValue> } | undefined
  for await (const page of etcd.pages({ prefix: keys.gateways })) {
    for (const entry of page.entries) {
      const [, id = '', ...rest] = entry.key.split('/')
      if (current?.id !== id) {
        if (current !== undefined) yield rowOf(current.id, current.parts, clock.wallMs())
        current = { id, parts: new Map() }
      }
      current.parts.set(rest.join('/'), entry)
    }
  }
  if (current !== undefined) yield rowOf(current.id, current.parts, clock.wallMs())
}

const TONES = { online: 'green', offline: 'red', unknown: 'yellow' } as const
const DOUBTS_SHOWN = 10

function view(
  rows: readonly GatewayRow[],
  { online, offline, unknown }: Readonly<Record<GatewayRow['state'], number>>,
  nowMs: number,
): string {
  if (rows.length === 0) return 'no gateway has been here yet'
  const head = `${rows.length} gateways: ${colour(TONES.online, `${online} online`)}, ${offline} offline${unknown > 0 ? `, ${unknown} unknown` : ''}`
  const cells = rows.map((row) => [
    row.gateway,
    row.state,
    row.lastSeen === null ? '-' : `${duration(Math.max(0, nowMs - Date.parse(row.lastSeen)))} ago`,
    row.version ?? '-',
    row.site ?? '-',
    Object.entries(row.labels)
      .map(([name, value]) => `${name}=${value}`)
      .join(' '),
    row.inForce.length === 0 ? '-' : row.inForce.slice(-3).join(' ') + (row.inForce.length > 3 ? ` and ${row.inForce.length - 3}` : ''),
    lastResult(row),
    noteOf(row),
  ])
  return [
    head,
    '',
    table(['gateway', 'state', 'seen', 'version', 'site', 'labels', 'in force', 'last result', ''], cells),
    ...doubtLines(rows),
  ].join('\n')
}

function lastResult({ results }: GatewayRow): string {
  const [last] = Object.entries(results).sort(([, left], [, right]) => (left.at < right.at ? 1 : -1))
  return last === undefined ? '-' : `${last[0]} ${last[1].state}`
}

function noteOf({ hold, controller, doubts }: GatewayRow): string {
  const parts = [
    ...(hold === null || hold === undefined ? [] : [`held until ${hold.until} by ${hold.by}: ${hold.reason}`]),
    ...(controller ? ['controller'] : []),
    ...(doubts.length > 0 ? ['NOT VERIFIED'] : []),
  ]
  return parts.join('; ')
}

function doubtLines(rows: readonly GatewayRow[]): string[] {
  const all = rows.flatMap(({ gateway, doubts }) => doubts.map((doubt) => `  ${printable(gateway)}: ${printable(doubt)}`))
  if (all.length === 0) return []
  const more = all.length > DOUBTS_SHOWN ? [`  and ${all.length - DOUBTS_SHOWN} more; --json lists them`] : []
  return ['', 'not to be believed, and left out above:', ...all.slice(0, DOUBTS_SHOWN), ...more]
}

async function release(program: Command, link: FleetLink, id: string, reason: string | undefined): Promise<void> {
  const { etcd, clock } = link
  const audit = auditOf('fleet release', { gateway: id, ...(reason === undefined ? {} : { reason }) })
  const isOnline = await writeInView(
    link,
    async () => (await etcd.transact({ compare: [], then: [{ get: keys.identity(id) }, { get: keys.alive(id) }] })).answers,
    ([first, second]) => {
      const [identity, alive] = [only(first?.entries), only(second?.entries)]
      if (identity === undefined) throw notBound(id)
      const put = { put: keys.released(id), value: identity.value }
      const then = [...(readIdentity(identity.value).ok ? [put] : []), { delete: keys.identity(id) }]
      const atMs = alive && readAliveAt(alive)
      const answer = atMs !== undefined && Math.abs(clock.wallMs() - atMs) < ALIVE_WITHIN_MS
      return { answer, write: { compare: [{ key: identity.key, mod: identity.modRevision }], then, audit } }
    },
  )
  const warning = isOnline
    ? `\nwarning: somebody was there as ${printable(id)} in the last minutes; if the old box still runs, it may be the first again`
    : ''
  const text = `${printable(id)} is released: the next gateway that comes with this id has it${warning}`
  show(program, { schema: 1, gateway: id, released: true, wasOnline: isOnline }, text)
}

function notBound(id: string): GatewayError {
  return new GatewayError('rejected', `no gateway is bound to ${printable(JSON.stringify(id))}`, { remedy: '`edgectl fleet` lists them' })
}
