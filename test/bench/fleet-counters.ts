/** What etcd says of itself: requests, bytes and processor time. */
import type { EtcdClient } from '../../adapters/etcd/client.ts'
import { rounded, usageOf } from './measure.ts'

export interface Counters {
  /** Messages that clients sent, by method. */
  readonly requests: Readonly<Record<string, number>>
  readonly received: number
  readonly sent: number
  readonly cpuSeconds: number
  readonly rssMiB: number
  readonly revision: number
}

export interface Spent {
  readonly requestsPerBox: number
  readonly perMethod: Readonly<Record<string, number>>
  /** Those of gRPC's messages, without HTTP/2 around them. */
  readonly bytesPerBox: number
  readonly etcdCpuSeconds: number
}

export async function countersOf(endpoint: string, pid: number, client: EtcdClient): Promise<Counters> {
  const text = await (await fetch(`${endpoint}/metrics`)).text()
  const all = (name: string): readonly RegExpMatchArray[] => [...text.matchAll(new RegExp(`^${name}(?:\\{([^}]*)\\})? ([0-9.e+]+)$`, 'gm'))]
  const sum = (name: string): number => all(name).reduce((total, match) => total + Number(match[2]), 0)
  const requests: Record<string, number> = {}
  for (const [, labels = '', count] of all('grpc_server_msg_received_total')) {
    const method = /grpc_method="(\w+)"/.exec(labels)?.[1] ?? 'other'
    requests[method] = (requests[method] ?? 0) + Number(count)
  }
  const { revision } = await client.list({ prefix: '~none/', keysOnly: true })
  return {
    requests,
    received: sum('etcd_network_client_grpc_received_bytes_total'),
    sent: sum('etcd_network_client_grpc_sent_bytes_total'),
    cpuSeconds: usageOf(pid).cpuSeconds,
    rssMiB: usageOf(pid).rssMiB,
    revision,
  }
}

export function since(before: Counters, after: Counters, boxes: number): Spent {
  const perMethod: Record<string, number> = {}
  let all = 0
  for (const [method, count] of Object.entries(after.requests)) {
    const more = count - (before.requests[method] ?? 0)
    if (more > 0) perMethod[method] = rounded(more / boxes)
    all += more
  }
  return {
    requestsPerBox: rounded(all / boxes),
    perMethod,
    bytesPerBox: Math.round((after.received + after.sent - before.received - before.sent) / boxes),
    etcdCpuSeconds: rounded(after.cpuSeconds - before.cpuSeconds),
  }
}
