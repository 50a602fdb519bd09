/** Looks right away whether an answer works. */
import { portOwner } from '../../../adapters/host/probe-ports.ts'
import type { HostPort, Settings } from '../../../config/settings.ts'
import { isOwn, ownerWords, wayOut } from '../../compose/taken-port.ts'
import { Findings, type Check } from '../../doctor/check.ts'
import { colour, printable } from '../text.ts'
import type { QuestionName } from './answers.ts'

const STEP_MS = 5_000

export async function lookAtAnswer(name: QuestionName, settings: Settings): Promise<readonly Check[]> {
  const { ways } = await import('../../compose/doctor/ways.ts')
  if (name === 'devices') {
    const { connectionChecks } = await import('../../compose/doctor/mqtt.ts')
    const ports = Object.entries(settings.mqtt.listen).map(([listener, { url }]) => portCheck(`mqtt.listen.${listener}`, url, settings))
    return [...ports, ...(await connectionChecks(settings, ways(STEP_MS)))]
  }
  if (name === 'kafka' && settings.kafka !== undefined) {
    const { kafkaChecks } = await import('../../compose/doctor/kafka.ts')
    return (await kafkaChecks(settings, ways(STEP_MS))).filter(isOfTheWay)
  }
  if (name === 'etcd' && settings.etcd !== undefined) {
    const { etcdChecks } = await import('../../compose/doctor/etcd.ts')
    return (await etcdChecks(settings, ways(STEP_MS))).checks
  }
  return name === 'page' && settings.page.listen !== undefined ? [portCheck('page.listen', settings.page.listen, settings)] : []
}

/** The way to each broker. Topics and rights come later: `edgectl kafka setup` makes them. */
function isOfTheWay({ name }: Check): boolean {
  return /^(kafka|cluster|kafka version|advertised brokers)$|:\d+ /.test(name)
}

function portCheck(name: string, { port }: HostPort, { gateway }: Settings): Check {
  const findings = new Findings('mqtt')
  const owner = portOwner(port)
  if (owner === undefined) findings.ok(name, `port ${port} is free`)
  else if (isOwn(owner, gateway.dataDir)) findings.ok(name, `port ${port} is the gateway's own already`)
  else findings.fail(name, `${ownerWords(owner)} listens on ${port}`, wayOut(owner, port))
  return findings.checks[0] as Check
}

const TONES = { ok: 'green', warn: 'yellow', fail: 'red', skipped: 'dim' } as const

export function checkLines(checks: readonly Check[]): string {
  return checks
    .map(({ state, name, finding, remedy }) => {
      const line = `  ${colour(TONES[state], state.padEnd(7))} ${printable(name)}: ${printable(finding)}`
      return remedy === undefined ? line : `${line}\n          try: ${printable(remedy)}`
    })
    .join('\n')
}
