/** What the gateway says of itself. Pure. */
import type { StatusDocument } from '../status.ts'
import { Findings, type Check } from './check.ts'

export function judgeGateway(status: StatusDocument): readonly Check[] {
  const findings = new Findings('gateway')
  const { verdict, buffer, configuration, sources } = status
  const { state, line, remedy } = verdict
  if (state === 'ok' || state === 'starting' || state === 'stopping') findings.ok('verdict', `${state}: ${line}`)
  else if (state === 'stuck' || state === 'blocked') findings.fail('verdict', `${state}: ${line}`, remedy)
  else findings.warn('verdict', `${state}: ${line}`, remedy ?? '`edgectl status` says more')
  if (buffer.deadLetters > 0)
    findings.warn(
      'dead letters',
      `${buffer.deadLetters} records that Kafka refused for good`,
      '`edgectl dead-letters list` says why; then retry or drop each',
    )
  else findings.ok('dead letters', 'none')
  for (const { label, reason } of configuration.leftOut)
    findings.warn(`settings of ${label}`, `left out: ${reason}`, 'mend the file, or take the patch back; `edgectl config show` says more')
  const notices = [
    ...buffer.notices.map(({ text }) => text),
    ...sources.flatMap((source) => source.notices.map(({ text, count }) => `${source.name}: ${text} (${count})`)),
  ]
  for (const [index, text] of notices.slice(0, 5).entries()) findings.warn(`notice ${index + 1}`, text)
  const { silent } = status.devices
  if (silent > 0)
    findings.warn(
      'silent devices',
      `${silent} ${silent === 1 ? 'device is' : 'devices are'} silent`,
      '`edgectl devices --silent` lists them',
    )
  return findings.checks
}
