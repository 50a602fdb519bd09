import { duration } from '../health.ts'
import { patchLines } from '../patch-figures.ts'
import type { StatusDocument } from '../status.ts'
import { importLine } from './move/import-view.ts'
import { overrideLine } from './override-line.ts'
import { colour, count, printable, size, table } from './text.ts'

const TONES = {
  ok: 'green',
  starting: 'yellow',
  buffering: 'yellow',
  degraded: 'yellow',
  stopping: 'yellow',
  blocked: 'red',
  stuck: 'red',
} as const

/** One screen that leads with the verdict. */
export function statusView(status: StatusDocument): string {
  return [verdictLine(status), ...facts(status), '', sources(status), '', lanes(status), ...notices(status)].join('\n')
}

function verdictLine({ verdict }: StatusDocument): string {
  return `${colour(TONES[verdict.state], colour('bold', verdict.state.toUpperCase()))}: ${verdict.line}`
}

function facts(status: StatusDocument): string[] {
  const { verdict, buffer, rates, kafka } = status
  const full = buffer.fullInSeconds === undefined ? '' : `, full in ${duration(buffer.fullInSeconds * 1_000)}`
  const lines = [
    ...(verdict.reason === undefined || verdict.line.startsWith(verdict.reason) ? [] : [`  reason   ${verdict.reason}`]),
    `  gateway  ${status.gateway}, version ${status.version}, pid ${status.pid}, up ${duration(status.uptimeSeconds * 1_000)}`,
    `  in ${rates.inPerSecond}/s  out ${rates.outPerSecond}/s  shed ${rates.shedPerSecond}/s  buffer ${size(buffer.usedBytes)} of ${size(buffer.maxBytes)}${full}`,
    `  buffer   ${count(buffer.messages)} messages${oldest(buffer.oldestAgeSeconds)}, ${size(buffer.freeDiskBytes)} free on the disk, ${count(buffer.deadLetters)} dead letters`,
    `  when full: ${whenFull(status)}`,
    `  kafka    ${kafka.state}${kafka.reason === undefined || kafka.reason === verdict.reason ? '' : `: ${kafka.reason}`}`,
  ]
  if (verdict.remedy !== undefined) lines.push(`  remedy   ${verdict.remedy}`)
  if (!status.clockTrusted) lines.push(`  clock    ${status.at} can't be right: set it, or check NTP`)
  if (status.patches !== undefined)
    lines.push(...patchLines(status.patches, Date.parse(status.at)).map((line) => printable(`  patches  ${line}`)))
  lines.push(...status.imports.map((one) => printable(`  import   ${importLine(one)}`)))
  lines.push(...status.configuration.overrides.map((override) => `  override ${overrideLine(override)}`))
  lines.push(...status.configuration.leftOut.map(({ label, reason }) => printable(`  left out ${label}: ${reason.replaceAll('\n', '; ')}`)))
  return lines
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
  const own = status.buffer.notices.map((notice) => `  notice   buffer: ${notice.text} (${notice.at})`)
  const ofSources = status.sources.flatMap((source) =>
    source.notices.map((notice) => `  notice   ${source.name}: ${notice.text} (${count(notice.count)}, last ${notice.last})`),
  )
  return [...own, ...ofSources]
}
