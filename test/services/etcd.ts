import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from './ports.ts'
import { startService } from './service.ts'
import type { Service } from './service.ts'

export interface EtcdOptions {
  readonly dir: string
  readonly port?: number
  /** More command-line arguments, for example `--quota-backend-bytes=20000000`. */
  readonly args?: readonly string[]
  /** Clients then need `https`, and a certificate when `clientCaFile` is given. */
  readonly tls?: EtcdTls
}

/** PEM files. */
export interface EtcdTls {
  readonly keyFile: string
  readonly certFile: string
  readonly clientCaFile?: string
}

export interface EtcdCluster {
  readonly members: readonly Service[]
  readonly endpoints: readonly string[]
  stop(): Promise<void>
}

interface MemberPorts {
  readonly name: string
  readonly client: number
  readonly peer: number
  /** `/health` in plain HTTP, also when clients must use TLS. */
  readonly health: number
}

/** Starts a one-node etcd on 127.0.0.1, without authentication. */
export async function startEtcd(options: EtcdOptions): Promise<Service> {
  const member = await memberPorts('etcd', options.port)
  return startMember(member, [member], options)
}

/** Starts `count` etcd members in folders of their own under `dir`; resolves when all are healthy. */
export async function startEtcdCluster(count: number, options: Omit<EtcdOptions, 'port'>): Promise<EtcdCluster> {
  const members: MemberPorts[] = []
  for (let index = 0; index < count; index++) members.push(await memberPorts(`etcd-${index}`))
  const starts = await Promise.allSettled(
    members.map((member) => startMember(member, members, { ...options, dir: join(options.dir, member.name) })),
  )
  const services = starts.flatMap((start) => (start.status === 'fulfilled' ? [start.value] : []))
  const stop = async (): Promise<void> => void (await Promise.all(services.map((service) => service.stop())))
  const failure = starts.find((start) => start.status === 'rejected')
  if (failure !== undefined) {
    await stop()
    throw failure.reason
  }
  return { members: services, endpoints: services.map((service) => service.endpoint), stop }
}

async function memberPorts(name: string, client?: number): Promise<MemberPorts> {
  return { name, client: client ?? (await freePort()), peer: await freePort(), health: await freePort() }
}

function startMember(member: MemberPorts, all: readonly MemberPorts[], options: EtcdOptions): Promise<Service> {
  mkdirSync(options.dir, { recursive: true })
  const endpoint = clientUrl(member, options.tls)
  return startService({
    name: member.name,
    endpoint,
    port: member.client,
    dir: options.dir,
    logFile: join(options.dir, 'etcd.log'),
    file: 'etcd',
    args: [...memberArgs(member, all, options), ...(options.args ?? [])],
    isReady: () => isHealthy(member.health),
    readyTimeoutMs: 60_000,
    graceMs: 10_000,
  })
}

function memberArgs(member: MemberPorts, all: readonly MemberPorts[], options: EtcdOptions): string[] {
  return [
    `--name=${member.name}`,
    `--data-dir=${join(options.dir, 'state')}`,
    `--listen-client-urls=${clientUrl(member, options.tls)}`,
    `--advertise-client-urls=${clientUrl(member, options.tls)}`,
    ...tlsArgs(options.tls),
    `--listen-peer-urls=${url(member.peer)}`,
    `--initial-advertise-peer-urls=${url(member.peer)}`,
    `--initial-cluster=${all.map((one) => `${one.name}=${url(one.peer)}`).join(',')}`,
    '--initial-cluster-state=new',
    `--listen-metrics-urls=${url(member.health)}`,
    '--logger=zap',
  ]
}

function clientUrl(member: MemberPorts, tls: EtcdTls | undefined): string {
  return tls === undefined ? url(member.client) : url(member.client).replace('http:', 'https:')
}

function tlsArgs(tls: EtcdTls | undefined): string[] {
  if (tls === undefined) return []
  const own = [`--cert-file=${tls.certFile}`, `--key-file=${tls.keyFile}`]
  return tls.clientCaFile === undefined ? own : [...own, '--client-cert-auth', `--trusted-ca-file=${tls.clientCaFile}`]
}

function url(port: number): string {
  return `http://127.0.0.1:${port}`
}

async function isHealthy(port: number): Promise<boolean> {
  const response = await fetch(`${url(port)}/health`, { signal: AbortSignal.timeout(2_000) })
  const body = (await response.json()) as { health?: string }
  return body.health === 'true'
}
