/** What the tests of etcd share: clients, contenders, and the history as etcd itself tells it. */
import { execFile } from 'node:child_process'
import { renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { EtcdClient } from '../../adapters/etcd/client.ts'
import type { EtcdClientSettings } from '../../adapters/etcd/settings.ts'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import type { Clock } from '../../daemon/clock.ts'
import type { LockRequest, Slots } from '../../daemon/patch/lock.ts'
import type { Tools } from '../../daemon/patch/wait.ts'
import type { LockEvent } from '../fakes/lock-judge.ts'
import type { EtcdCluster, Service } from '../services/index.ts'

export const PREFIX = '/edge/v1/'
export const clock = new SystemClock()

export function settingsFor(ports: number | readonly number[], changes: Partial<EtcdClientSettings> = {}): EtcdClientSettings {
  const endpoints = [ports].flat().map((port) => ({ host: '127.0.0.1', port, secure: false }))
  return { endpoints, prefix: PREFIX, tls: undefined, username: undefined, passwordFile: undefined, timeoutMs: 1_500, ...changes }
}

export function toolsFor(
  ports: number | readonly number[],
  changes: Partial<EtcdClientSettings> & { readonly clock?: Clock } = {},
): Tools & { readonly etcd: EtcdClient } {
  const { clock: time = clock, ...settings } = changes
  return { etcd: new EtcdClient(settingsFor(ports, settings), time), clock: time, random: systemRandom }
}

export const ONE: Slots = slots(1)

export function slots(count: number): Slots {
  return { count, onChange: () => () => undefined }
}

export function requestFor(scope: string, gateway: string, changes: Partial<LockRequest> = {}): LockRequest {
  return { scope, slots: ONE, owner: { gateway, life: 'life-1' }, ttlMs: 2_000, ...changes }
}

export const forever = new AbortController().signal

export async function etcdctl(endpoint: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)('etcdctl', [`--endpoints=${endpoint}`, ...args], {
    env: { ...process.env, ETCDCTL_API: '3' },
  })
  return stdout
}

/** Everything that ever happened, from etcd's own log: the judge believes no contender. */
export async function readHistory(endpoint: string): Promise<LockEvent[]> {
  const { Etcd3 } = await import('etcd3')
  const driver = new Etcd3({ hosts: endpoint })
  try {
    await driver.put(`${PREFIX}~end`).value(String(Math.random()))
    const { header } = await driver.kv.range({ key: Buffer.from(`${PREFIX}~end`) })
    const stream = await driver.watchClient.watch()
    const events: LockEvent[] = []
    return await new Promise((resolve, reject) => {
      stream.on('error', reject).on('data', (answer) => {
        for (const { type, kv } of answer.events) {
          const key = kv.key.toString().slice(PREFIX.length)
          events.push({ revision: Number(kv.mod_revision), type: type === 'Put' ? 'put' : 'delete', key, value: kv.value })
        }
        if ((events.at(-1)?.revision ?? 0) < Number(header.revision)) return
        resolve(events)
        stream.end()
        stream.cancel()
      })
      stream.write({ create_request: { key: Buffer.from(PREFIX), range_end: Buffer.from('/edge/v10'), start_revision: 1 } })
    })
  } finally {
    driver.close()
  }
}

/** Waits for an election that is under way. */
export async function leaderOf(cluster: EtcdCluster): Promise<Service> {
  for (;;) {
    const text = await etcdctl(cluster.endpoints.join(), 'endpoint', 'status', '-w', 'json')
    const all = JSON.parse(text) as { Endpoint: string; Status: { leader: number; header: { member_id: number } } }[]
    const leader = all.find(({ Status }) => Status.leader === Status.header.member_id)
    const found = cluster.members.find(({ endpoint }) => endpoint === leader?.Endpoint)
    if (found !== undefined) return found
    await sleep(100)
  }
}

/** Stops it and takes it back to `backup`, as etcd's guide says; with another token the cluster gets another id. Start it then. */
export async function restore(etcd: Service, backup: string, token: string): Promise<void> {
  await etcd.stop()
  const [state, fresh] = [join(etcd.dir, 'state'), join(etcd.dir, 'restored')]
  const peers = etcd.identity.command.match(/--initial-cluster=\S+|--initial-advertise-peer-urls=\S+/g) ?? []
  const args = ['--name=etcd', `--data-dir=${fresh}`, `--initial-cluster-token=${token}`, ...peers]
  await etcdctl(etcd.endpoint, 'snapshot', 'restore', backup, ...args)
  rmSync(state, { recursive: true })
  renameSync(fresh, state)
}
