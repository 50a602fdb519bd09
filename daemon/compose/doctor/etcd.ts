/** Each endpoint by itself; then whether they are one cluster. */
import { reach } from '../../../adapters/host/probe-net.ts'
import type { Settings } from '../../../config/settings.ts'
import type { OtherClock } from '../../doctor/clock.ts'
import { Findings, type Check } from '../../doctor/check.ts'
import type { EndpointTry, Reach } from '../../doctor/facts.ts'
import { judgeReach } from '../../doctor/peers.ts'
import { keys } from '../../patch/records.ts'
import type { Ways } from './ways.ts'

export interface EtcdLook {
  readonly checks: readonly Check[]
  readonly clocks: readonly OtherClock[]
}

export async function etcdChecks(settings: Settings, ways: Ways): Promise<EtcdLook> {
  const findings = new Findings('etcd')
  const { etcd } = settings
  if (etcd === undefined) {
    findings.skip('etcd', 'none is named: no patches come to this box')
    return { checks: findings.checks, clocks: [] }
  }
  const looks = await Promise.all(etcd.endpoints.map((endpoint) => lookAt(endpoint, settings, ways)))
  const nowMs = ways.clock.wallMs()
  for (const look of looks) judge(look, nowMs, findings)
  const ids = new Set(looks.flatMap(({ tried }) => tried?.read.clusterId ?? []))
  if (ids.size > 1) findings.fail('one cluster', `the endpoints belong to ${ids.size} different clusters`, 'correct etcd.endpoints')
  const clocks = looks.flatMap(({ found, tried }) =>
    tried?.clockAheadMs === undefined ? [] : [{ of: `etcd ${found.host}`, aheadMs: tried.clockAheadMs }],
  )
  return { checks: findings.checks, clocks }
}

interface Look {
  readonly found: Reach
  readonly secure: boolean
  readonly tried?: EndpointTry
}

type Endpoint = NonNullable<Settings['etcd']>['endpoints'][number]

async function lookAt(endpoint: Endpoint, { etcd, gateway }: Settings, { timeoutMs, clock }: Ways): Promise<Look> {
  const { host, port, secure } = endpoint
  const tls = secure ? (etcd?.tls ?? { ca: undefined, cert: undefined, key: undefined }) : undefined
  const found = await reach({ host, port, tls }, timeoutMs)
  if (etcd === undefined || found.tcp?.ok !== true || found.tls?.ok === false) return { found, secure }
  const { tryEndpoint } = await import('../../../adapters/etcd/probe.ts')
  const { prefix, username, passwordFile } = etcd
  const client = { endpoints: [{ host, port, secure }], prefix, tls: etcd.tls, username, passwordFile, timeoutMs }
  const reads = [keys.gateway(gateway.id), keys.patches, keys.rollouts]
  return { found, secure, tried: await tryEndpoint(client, { reads, writes: [keys.alive(gateway.id)] }, clock) }
}

const SLOW_MS = 1_000

function judge({ found, secure, tried }: Look, nowMs: number, findings: Findings): void {
  const name = `${found.host}:${found.port}`
  const outcome = judgeReach(found, { name, address: 'etcd.endpoints', tls: 'etcd.tls', secure }, nowMs, findings)
  const step = `${name} read`
  if (!outcome.reached || tried === undefined) return findings.skipBecause(step, outcome.reached ? `${name} tcp` : outcome.failed)
  const { ms, fault, remedy, reason } = tried.read
  if (fault !== undefined) {
    const leader =
      reason === 'unavailable'
        ? 'see whether the cluster has a leader: `etcdctl endpoint status --cluster`'
        : 'look at etcd.username and etcd.passwordFile'
    return findings.fail(step, fault, remedy ?? leader)
  }
  if (ms > SLOW_MS) findings.warn(step, `answers after ${ms} ms`, 'look at the link, and at the disks of etcd')
  else findings.ok(step, `answers after ${ms} ms`)
  for (const { what, fault: refused, remedy: way } of tried.rights) {
    if (refused === undefined) findings.ok(`${name} may ${what}`, 'allowed')
    else findings.fail(`${name} may ${what}`, refused, way ?? 'give the role of this user that right in etcd')
  }
}
