import { duration } from '../health.ts'
import { patchLines } from '../patch-figures.ts'
import type { StatusDocument } from '../status.ts'
import { importLine } from './move/import-view.ts'
import { fitted, screenOf, type Screen, type Section } from './fit.ts'
import { overrideLine } from './override-line.ts'
import { colour, count, printable, size, table } from './text.ts'

export const TONES = {
  ok: 'green',
  starting: 'yellow',
  buffering: 'yellow',
  degraded: 'yellow',
  stopping: 'yellow',
  blocked: 'red',
  stuck: 'red',
} as const

/** One screen that leads with the verdict; on a terminal it is cut to its size. */
export function statusView(status: StatusDocument, screen: Screen | undefined = screenOf(process.stdout)): string {
  const lines = fitted(sectionsOf(status), screen)
  const state = status.verdict.state.toUpperCase()
  const [first = '', ...rest] = lines
  return [first.replace(state, colour(TONES[status.verdict.state], colour('bold', state))), ...rest].join('\n')
}

/** The most important first. */
function sectionsOf(status: StatusDocument): readonly Section[] {
  const { verdict } = status
  const named = (name: string, lines: readonly string[], where: string): Section => {
    const short = lines.length > 1 ? { short: [`  ${name} ${lines.length}: ${where}`] } : {}
    return { lines: lines.map((line) => printable(`  ${name} ${line}`)), ...short }
  }
  const overrides = status.configuration.overrides.map((override) => overrideLine(override))
  const leftOut = status.configuration.leftOut.map(({ label, reason }) => `${label}: ${reason.replaceAll('\n', '; ')}`)
  const patches = status.patches === undefined ? [] : patchLines(status.patches, Date.parse(status.at))
  return [
    { lines: [printable(`${verdict.state.toUpperCase()}: ${verdict.line}`), ...causes(status)] },
    { lines: [...notThere(status), ...refusedReload(status)] },
    { lines: figures(status) },
    { lines: patches.map((line) => printable(`  patches  ${line}`)) },
    named('override', overrides, 'edgectl config override --list'),
    named('left out', leftOut, 'edgectl config show'),
    named('import  ', status.imports.map(importLine), 'edgectl import --help'),
    { lines: ['', ...lanes(status).split('\n')], short: shortLanes(status), isTable: true },
    { lines: ['', ...sources(status).split('\n')], short: shortSources(status), isTable: true },
    named('notice  ', notices(status), 'edgectl status --json'),
  ]
}

function causes({ verdict, clockTrusted, at }: StatusDocument): string[] {
  const isSaid = verdict.reason === undefined || verdict.line.startsWith(verdict.reason)
  return [
    ...(isSaid ? [] : [printable(`  reason   ${verdict.reason}`)]),
    ...(verdict.remedy === undefined ? [] : [printable(`  remedy   ${verdict.remedy}`)]),
    ...(clockTrusted ? [] : [`  clock    ${at} can't be right: set it, or check NTP`]),
  ]
}

/** Those that the verdict does not name already. */
function notThere({ verdict, configuration: { waiting } }: StatusDocument): string[] {
  return waiting
    .filter(({ reason }) => reason !== verdict.reason)
    .map(({ name, reason, remedy }) =>
      printable(`  ${name.padEnd(8)} is not there: ${reason}${remedy === undefined ? '' : `; try: ${remedy}`}`),
    )
}

function refusedReload({ configuration: { refused } }: StatusDocument): string[] {
  if (refused === undefined) return []
  return [
    printable(
      `  reload   the last one was refused (${refused.at}), the configuration before it is in force: ${refused.reason.replaceAll('\n', '; ')}`,
    ),
  ]
}

function figures(status: StatusDocument): string[] {
  const { verdict, buffer, rates, kafka, devices } = status
  const full = buffer.fullInSeconds === undefined ? '' : `, full in ${duration(buffer.fullInSeconds * 1_000)}`
  const unknown = devices.unknown === 0 ? '' : `, ${count(devices.unknown)} not seen since the start`
  return [
    `  in ${rates.inPerSecond}/s  out ${rates.outPerSecond}/s  shed ${rates.shedPerSecond}/s  buffer ${size(buffer.usedBytes)} of ${size(buffer.maxBytes)}${full}`,
    `  when full: ${whenFull(status)}`,
    `  buffer   ${count(buffer.messages)} messages${oldest(buffer.oldestAgeSeconds)}, ${size(buffer.freeDiskBytes)} free on the disk, ${count(buffer.deadLetters)} dead letters`,
    `  devices  ${count(devices.online)} online, ${count(devices.silent)} silent, ${count(devices.offline)} offline${unknown}`,
    printable(`  kafka    ${kafka.state}${kafka.reason === undefined || kafka.reason === verdict.reason ? '' : `: ${kafka.reason}`}`),
    `  gateway  ${status.gateway}, version ${status.version}, pid ${status.pid}, up ${duration(status.uptimeSeconds * 1_000)}`,
  ]
}

/** Lanes that hold something. */
function shortLanes(status: StatusDocument): readonly string[] {
  const waiting = Object.entries(status.lanes).filter(([, { messages }]) => messages > 0)
  return waiting.length === 0
    ? []
    : [
        `  lanes    ${waiting.map(([name, { messages, blocked }]) => `${name} ${count(messages)}${blocked ? ' (waits for room)' : ''}`).join(', ')}`,
      ]
}

/** Sources that need a look, and how many do not. */
function shortSources({ sources: all }: StatusDocument): readonly string[] {
  const down = all.filter(({ state }) => state !== 'up')
  const up = all.length - down.length
  const listed = down
    .slice(0, 3)
    .map(({ kind, name, state, reason }) => printable(`  source   ${kind}.${name} ${state}: ${reason ?? 'no reason known'}`))
  const rest = down.length - listed.length
  return [...listed, `  sources  ${up} up${rest > 0 ? `, ${rest} more are not` : ''}: edgectl status --json`]
}

/** `devices wait (urgent, normal), oldest dropped (deferred)` */
function whenFull({ whenFull: lanes }: StatusDocument): string {
  const having = (policy: string): string =>
    Object.entries(lanes)
      .flatMap(([lane, value]) => (value === policy ? [lane] : []))
      .join(', ')
  const parts = [
    ['devices wait', having('block')],
    ['oldest dropped', having('drop-oldest')],
  ] as const
  return parts.flatMap(([what, names]) => (names === '' ? [] : [`${what} (${names})`])).join(', ')
}

function oldest(ageSeconds: number | undefined): string {
  return ageSeconds === undefined ? '' : `, oldest ${duration(ageSeconds * 1_000)}`
}

function sources(status: StatusDocument): string {
  return table(
    ['source', 'state', 'connections', 'messages', 'reason'],
    status.sources.map((source) => [
      `${source.kind}.${source.name}`,
      source.state,
      source.connections,
      source.received.messages,
      source.reason ?? '',
    ]),
  )
}

function lanes(status: StatusDocument): string {
  return table(
    ['lane', 'buffered', 'delivered', 'payload', 'oldest', ''],
    Object.entries(status.lanes).map(([name, lane]) => [
      name,
      lane.messages,
      lane.delivered,
      size(lane.bytes),
      lane.oldestAgeSeconds === undefined ? '-' : duration(lane.oldestAgeSeconds * 1_000),
      lane.blocked ? 'waits for room' : '',
    ]),
  )
}

function notices(status: StatusDocument): string[] {
  const own = status.buffer.notices.map((notice) => `buffer: ${notice.text} (${notice.at})`)
  const ofSources = status.sources.flatMap((source) =>
    source.notices.map((notice) => `${source.name}: ${notice.text} (${count(notice.count)}, last ${notice.last})`),
  )
  return [...own, ...ofSources]
}
