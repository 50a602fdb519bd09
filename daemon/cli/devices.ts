/** `edgectl devices [ID]`: who is there, who fell silent, and what each sends. */
import { InvalidArgumentError, Option, type Command } from 'commander'
import { SORTS } from '../compose/device-query.ts'
import { duration } from '../health.ts'
import { STATES } from '../ingest/presence-table.ts'
import { ask, type GlobalOptions } from './ask.ts'
import type { DeviceDocument, DeviceRow, DevicesDocument } from './device-documents.ts'
import { show } from './figures.ts'
import { screenOf } from './fit.ts'
import { colour, count, printable, size, table } from './text.ts'

interface Wanted {
  readonly search?: string
  readonly state?: string
  readonly silent?: boolean
  readonly sort: string
  readonly limit: number
  readonly after?: string
}

export function devicesCommand(program: Command): void {
  program
    .command('devices [id]')
    .description('devices with their state, when they were last seen, what they send, and what the limits do to it; with an id, all of one')
    .option('--silent', 'only those that fell silent')
    .addOption(new Option('--state <state>', 'only those in this state').choices(STATES))
    .option('--search <text>', 'only those with this in their id')
    .addOption(new Option('--sort <by>', 'the order').choices(SORTS).default('id'))
    .option('--limit <n>', 'how many; at most 500', whole, 50)
    .option('--after <id>', 'go on behind this device')
    .addHelpText('after', '\nExamples:\n  edgectl devices --silent\n  edgectl devices cam-7')
    .action(async (id: string | undefined, wanted: Wanted) => {
      const options = program.opts<GlobalOptions>()
      if (id !== undefined) {
        const { document } = await ask(options, `/devices/${encodeURIComponent(id)}`)
        return show(program, document, deviceView(document as DeviceDocument))
      }
      const query = new URLSearchParams({ sort: wanted.sort, limit: String(wanted.limit) })
      const state = wanted.silent === true ? 'silent' : wanted.state
      for (const [name, value] of Object.entries({ search: wanted.search, state, after: wanted.after }))
        if (value !== undefined) query.set(name, value)
      const { document } = await ask(options, `/devices?${query.toString()}`)
      show(program, document, devicesView(document as DevicesDocument))
    })
}

function whole(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1 || value > 500) throw new InvalidArgumentError('write a whole number from 1 to 500.')
  return value
}

export function devicesView(document: DevicesDocument): string {
  const { counts, devices, matched, next, unheard, evicted, untracked, running } = document
  const lines = [
    `${counts.online} online, ${counts.silent} silent, ${counts.offline} offline, ${counts.unknown} unknown${running ? '' : ' (as last written down)'}`,
    ...unheard.map(({ source, state, reason }) =>
      printable(`  mqtt.${source} is ${state}: ${reason ?? 'no reason known'}; the silence of its devices is not judged`),
    ),
  ]
  if (evicted > 0 || untracked > 0)
    lines.push(
      `  more devices than presence.maxDevices (${count(document.maxDevices)}): ${count(evicted)} forgotten, ${count(untracked)} messages of others not followed`,
    )
  lines.push('', devices.length === 0 ? nobody(counts) : rows(devices))
  if (matched > devices.length)
    lines.push('', `${count(devices.length)} of ${count(matched)}${next === undefined ? '' : `; the next: --after ${shellQuoted(next)}`}`)
  return lines.join('\n')
}

/** Nothing was found, or there is nothing to find yet. */
function nobody({ online, silent, offline, unknown }: DevicesDocument['counts']): string {
  if (online + silent + offline + unknown > 0) return 'no such device'
  return 'no device has sent anything yet; `edgectl why device ID` says whether one was turned away'
}

/** On a phone the id is shortened, and the last column is left out: `edgectl devices ID` has it all. */
function rows(devices: readonly DeviceRow[]): string {
  const columns = screenOf(process.stdout)?.columns ?? Infinity
  const isWide = columns >= 80
  const nameMax = Math.max(12, Math.min(NAME_MAX, columns - (isWide ? 62 : 40)))
  return table(
    ['device', 'state', 'last seen', 'in/s', 'shed', ...(isWide ? ['last message'] : [])],
    devices.map((row) => [short(row.device, nameMax), row.state, seen(row), row.inPerSecond, row.shed, ...(isWide ? [lane(row)] : [])]),
  )
}

export function seen({ lastSeenSeconds, connected }: DeviceRow): string {
  if (connected) return 'connected'
  return lastSeenSeconds === undefined ? '?' : `${duration(lastSeenSeconds * 1_000)} ago`
}

function lane({ last, limitedBy }: DeviceRow): string {
  if (last === undefined) return '-'
  return limitedBy === undefined ? last : `${last} (${limitedBy === 'global' ? "the box's" : 'its'} limit)`
}

function deviceView(document: DeviceDocument): string {
  const { limit, disconnected, refusals } = document
  const facts: (readonly [string, string])[] = [
    ['state', document.state],
    ['seen', seen(document)],
    ['over', document.source ?? '-'],
    [
      'in',
      `${document.inPerSecond}/s, ${size(document.bytesPerSecond)}/s; ${count(document.messages)} messages, ${size(document.bytes)} since the start`,
    ],
    ['limits', `${count(document.shed)} shed, ${count(document.deferred)} deferred since the start; last message: ${lane(document)}`],
    [
      'silent',
      document.silentAfterSeconds === null
        ? 'its silence is no news (off)'
        : `after ${duration(document.silentAfterSeconds * 1_000)}${document.group === undefined ? '' : ` (presence.groups.${document.group})`}`,
    ],
  ]
  if (limit !== undefined)
    facts.push([
      'limit',
      `${limit.messagesPerSecond ?? 'unlimited'} messages/s (${limit.name}), bucket ${Math.round(limit.level * 100)} % full`,
    ])
  if (disconnected !== undefined) facts.push(['link', `ended ${duration(disconnected.secondsAgo * 1_000)} ago (${disconnected.how})`])
  if (document.deadLetters > 0) facts.push(['dead', `${document.deadLetters} dead letters: edgectl dead-letters list`])
  for (const { kind, detail, count: times } of refusals) facts.push(['refused', `${kind}: ${detail} (${times})`])
  return [colour('bold', printable(document.device)), ...facts.map(([name, value]) => printable(`  ${name.padEnd(8)} ${value}`))].join('\n')
}

const NAME_MAX = 40

function short(name: string, max: number): string {
  return name.length <= max ? name : `${name.slice(0, max - 1)}…`
}

/** To be pasted into a shell: what stands between the quotes is taken as it is. */
function shellQuoted(id: string): string {
  return `'${printable(id).replaceAll("'", `'\\''`)}'`
}
