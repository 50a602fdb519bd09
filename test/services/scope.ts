import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { startEtcd, startEtcdCluster } from './etcd.ts'
import type { EtcdCluster, EtcdOptions } from './etcd.ts'
import { startKafka } from './kafka.ts'
import type { KafkaOptions, KafkaService } from './kafka.ts'
import { startMosquitto } from './mosquitto.ts'
import type { MosquittoOptions } from './mosquitto.ts'
import { freePort } from './ports.ts'
import { startProxy } from './proxy.ts'
import type { Proxy, ProxyOptions } from './proxy.ts'
import type { Service } from './service.ts'

type WithoutDir<Options> = Omit<Options, 'dir'> & { readonly dir?: string }

/** Starts services that end, with their folders, when the test or suite is over. */
export interface ServiceScope {
  /** A fresh folder, removed at the end. */
  folder(): string
  mosquitto(options?: WithoutDir<MosquittoOptions>): Promise<Service>
  etcd(options?: WithoutDir<EtcdOptions>): Promise<Service>
  etcdCluster(count: number, options?: Omit<WithoutDir<EtcdOptions>, 'port'>): Promise<EtcdCluster>
  kafka(options?: WithoutDir<KafkaOptions>): Promise<KafkaService>
  /** A broker that names a Kafka-aware proxy to its clients; `kafka.endpoint` is the proxy's. */
  kafkaBehindProxy(
    options?: Omit<WithoutDir<KafkaOptions>, 'port' | 'advertisedPort'>,
  ): Promise<{ readonly kafka: KafkaService; readonly proxy: Proxy }>
  proxy(options: ProxyOptions): Promise<Proxy>
  /** Runs at the end, before everything that was registered earlier. */
  atEnd(release: () => void | Promise<void>): void
}

/**
 * Call it at the top of a test file or of a `describe` body. Inside a test give its own hook:
 * `serviceScope((release) => t.after(release))`.
 */
export function serviceScope(register: (release: () => Promise<void>) => void = (release) => after(release)): ServiceScope {
  const releases: (() => void | Promise<void>)[] = []
  register(async () => {
    for (const release of releases.reverse()) await release()
  })
  const atEnd = (release: () => void | Promise<void>): void => void releases.push(release)
  const folder = (): string => {
    const dir = mkdtempSync(join(tmpdir(), 'edge-gateway-'))
    atEnd(() => rmSync(dir, { recursive: true, force: true }))
    return dir
  }
  // SIGKILL: the folder is removed anyway, and it is the fastest.
  const owned = <Kind extends Service>(service: Kind): Kind => {
    atEnd(() => service.kill('SIGKILL'))
    return service
  }
  return { folder, atEnd, ...starters(folder, owned, atEnd) }
}

function starters(
  folder: () => string,
  owned: <Kind extends Service>(service: Kind) => Kind,
  atEnd: ServiceScope['atEnd'],
): Omit<ServiceScope, 'folder' | 'atEnd'> {
  const proxy = async (options: ProxyOptions): Promise<Proxy> => {
    const started = await startProxy(options)
    atEnd(() => started.stop())
    return started
  }
  const kafka = async (options: WithoutDir<KafkaOptions> = {}): Promise<KafkaService> =>
    owned(await startKafka({ dir: folder(), ...options }))
  return {
    proxy,
    kafka,
    mosquitto: async (options = {}) => owned(await startMosquitto({ dir: folder(), ...options })),
    etcd: async (options = {}) => owned(await startEtcd({ dir: folder(), ...options })),
    async etcdCluster(count, options = {}) {
      const cluster = await startEtcdCluster(count, { dir: folder(), ...options })
      cluster.members.forEach(owned)
      return cluster
    },
    async kafkaBehindProxy(options = {}) {
      const port = await freePort()
      const front = await proxy({ target: port, kafka: options.tls === undefined })
      return { proxy: front, kafka: await kafka({ ...options, port, advertisedPort: front.port }) }
    },
  }
}
