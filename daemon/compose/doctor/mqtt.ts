/** Our own listeners, and the brokers that we are clients of. */
import { readFileSync } from 'node:fs'
import { lookAtCertificate } from '../../../adapters/host/probe-files.ts'
import { reach } from '../../../adapters/host/probe-net.ts'
import { portOwner } from '../../../adapters/host/probe-ports.ts'
import type { ConnectionSettings, ListenerSettings, Settings } from '../../../config/settings.ts'
import { messageOf } from '../../errors.ts'
import { judgePort, type PortFacts } from '../../doctor/box.ts'
import { Findings, type Check } from '../../doctor/check.ts'
import { judgeCertificate, judgeReach } from '../../doctor/peers.ts'
import { connectSettings } from '../settings.ts'
import type { DaemonLook } from './daemon.ts'
import type { Ways } from './ways.ts'

const NOBODY: DaemonLook = { facts: { state: 'down' } }

export async function listenerChecks(settings: Settings, ways: Ways, { status, facts }: DaemonLook = NOBODY): Promise<readonly Check[]> {
  const findings = new Findings('mqtt')
  const daemon = { mayRun: facts.state === 'denied', ...(facts.pid !== undefined && { daemonPid: facts.pid }) }
  for (const [name, listener] of Object.entries(settings.mqtt.listen)) {
    const source = status?.sources.find((one) => one.kind === 'listen' && one.name === name)
    const label = `mqtt.listen.${name}`
    const { port } = listener.url
    const state = {
      ...(source !== undefined && { up: source.state === 'up' }),
      ...(source?.reason !== undefined && { reason: source.reason }),
    }
    judgePort({ name: label, port, ...ownerOf(port), ...daemon, ...state }, findings)
    await judgeListener(label, listener, ways, findings)
  }
  // The daemon does not start, either, when one of these is taken.
  for (const [key, address] of [['metrics.listen', settings.metrics.listen] as const, ['page.listen', settings.page.listen] as const])
    if (address !== undefined && address.port !== 0)
      judgePort({ name: key, port: address.port, ...ownerOf(address.port), ...daemon }, findings)
  return findings.checks
}

function ownerOf(port: number): Pick<PortFacts, 'owner' | 'user'> {
  const owner = portOwner(port)
  const user = owner === undefined ? undefined : userOf(owner.uid)
  return { owner, ...(user !== undefined && { user }) }
}

async function judgeListener(label: string, { tls, auth }: ListenerSettings, { clock }: Ways, findings: Findings): Promise<void> {
  if (tls !== undefined) judgeCertificate(lookAtCertificate(tls.cert, tls.key), `${label} certificate`, clock.wallMs(), findings)
  if (tls?.ca !== undefined) judgeCertificate(lookAtCertificate(tls.ca), `${label} authority`, clock.wallMs(), findings)
  if (auth.kind === 'none' || auth.passwordFile === undefined) return
  const { parsePasswordFile } = await import('../../../adapters/mqtt/passwords.ts')
  const name = `${label} passwords`
  try {
    const users = parsePasswordFile(readFileSync(auth.passwordFile)).size
    if (users === 0) findings.warn(name, `${auth.passwordFile} names nobody: no device can connect`, '`edgectl device add ID`')
    else findings.ok(name, `${users} ${users === 1 ? 'user' : 'users'} in ${auth.passwordFile}`)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EACCES') findings.skip(name, `this user may not read ${auth.passwordFile}; run the doctor with sudo`)
    else
      findings.fail(
        name,
        `${auth.passwordFile} can't be used: ${messageOf(error)}`,
        code === 'ENOENT' ? '`edgectl device add ID` makes it' : 'correct that line',
      )
  }
}

function userOf(uid: number): string | undefined {
  try {
    return new RegExp(`^([^:]+):[^:]*:${uid}:`, 'm').exec(readFileSync('/etc/passwd', 'utf8'))?.[1]
  } catch {
    // A box without the file names users by number.
    return undefined
  }
}

export async function connectionChecks(settings: Settings, ways: Ways): Promise<readonly Check[]> {
  const perSource = Object.entries(settings.mqtt.connect).map(([name, connection]) => connectionCheck(name, connection, settings, ways))
  return (await Promise.all(perSource)).flat()
}

async function connectionCheck(name: string, connection: ConnectionSettings, settings: Settings, ways: Ways): Promise<readonly Check[]> {
  const findings = new Findings('mqtt')
  const { clock, timeoutMs } = ways
  if (connection.tls?.cert !== undefined)
    judgeCertificate(
      lookAtCertificate(connection.tls.cert, connection.tls.key),
      `mqtt.connect.${name} certificate`,
      clock.wallMs(),
      findings,
    )
  const { tryBroker } = await import('../../../adapters/mqtt/probe.ts')
  const looks = connection.urls.map(async (url) => {
    const { host, port, secure } = url
    const found = await reach({ host, port, tls: secure ? connection.tls : undefined }, timeoutMs)
    return { url, found }
  })
  for (const { url, found } of await Promise.all(looks)) {
    const label = `${name} ${url.host}:${url.port}`
    const words = { name: label, address: `mqtt.connect.${name}.url`, tls: `mqtt.connect.${name}.tls`, secure: url.secure }
    const outcome = judgeReach(found, words, clock.wallMs(), findings)
    const step = `${label} login`
    if (!outcome.reached) findings.skipBecause(step, outcome.failed)
    else {
      const broker = { url: url.href, isSecure: url.secure, host: url.host, port: url.port }
      judgeBroker(name, label, await tryBroker(broker, connectSettings(name, connection, settings), timeoutMs), findings)
    }
  }
  return findings.checks
}

function judgeBroker(
  name: string,
  label: string,
  tried: Awaited<ReturnType<typeof import('../../../adapters/mqtt/probe.ts').tryBroker>>,
  findings: Findings,
): void {
  const { accepted, fault, refused, version, dropped } = tried
  if (!accepted) {
    const access = `look at username and passwordFile of mqtt.connect.${name}, and at the broker's own log`
    return findings.fail(`${label} login`, fault ?? 'the broker does not let us in', access)
  }
  findings.ok(`${label} login`, `let in${version === undefined ? '' : ` by ${version}`}`)
  if (refused.length > 0)
    findings.fail(
      `${label} topics`,
      `the broker does not let us subscribe to ${refused.join(', ')}`,
      'let its access list (acl) give this user the right to read them',
    )
  else findings.ok(`${label} topics`, 'may subscribe')
  if (dropped !== undefined && dropped > 0)
    findings.warn(
      `${label} drops`,
      `the broker has dropped ${dropped} messages for its clients since its start`,
      'raise max_queued_messages and max_inflight_messages in mosquitto.conf',
    )
}
