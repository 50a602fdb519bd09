import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { kafkaProperties } from './kafka-config.ts'
import type { KafkaPorts, KafkaProperties, KafkaSecurity } from './kafka-config.ts'
import { kafkaCacheDir, kafkaJars, renameOnce } from './kafka-jars.ts'
import { brokerAnswers } from './kafka-ready.ts'
import { JVM_SMALL, javaArgs, kafkaTool } from './kafka-tool.ts'
import { freePort } from './ports.ts'
import type { ServiceSpec } from './service.ts'

export interface KafkaOptions extends KafkaSecurity {
  /** Keeps the broker's state: the same folder and port give the same broker again. */
  readonly dir: string
  readonly port?: number
  /** The port that the broker names to clients. Set it to a proxy's. Default: `port`. */
  readonly advertisedPort?: number
  /** The name or address that the broker names to clients. Default: 127.0.0.1. */
  readonly advertisedHost?: string
  readonly version?: string
  /** Written to server.properties; they win over ours. */
  readonly properties?: KafkaProperties
}

export interface Broker {
  readonly spec: ServiceSpec
  readonly internalEndpoint: string
}

const CLUSTER_ID = 'ZWRnZS1nYXRld2F5LTAwMA' // 16 bytes in base64url, as Kafka wants it

/** Writes the configuration, formats the folder if it is new, and says how to run the broker. */
export async function prepareBroker(options: KafkaOptions, version: string, jvm: readonly string[]): Promise<Broker> {
  const { dir } = options
  const libs = await kafkaJars(version)
  const ports = await choosePorts(options)
  mkdirSync(dir, { recursive: true })
  const confFile = join(dir, 'server.properties')
  writeFileSync(confFile, kafkaProperties(dir, ports, options, options.properties))
  await format(dir, confFile, version, options)
  const spec: ServiceSpec = {
    name: 'kafka',
    endpoint: `127.0.0.1:${ports.advertised}`,
    port: ports.client,
    dir,
    logFile: join(dir, 'kafka.log'),
    file: 'java',
    args: javaArgs(libs, [...brokerJvm(dir), ...jvm], 'kafka.Kafka', [confFile]),
    isReady: () => brokerAnswers(ports.internal),
    readyTimeoutMs: 120_000,
    graceMs: 30_000,
  }
  return { spec, internalEndpoint: `127.0.0.1:${ports.internal}` }
}

async function choosePorts(options: KafkaOptions): Promise<KafkaPorts> {
  const client = options.port ?? (await freePort())
  const advertised = options.advertisedPort ?? client
  const { advertisedHost = '127.0.0.1' } = options
  return { client, advertised, advertisedHost, internal: await freePort(), controller: await freePort() }
}

function brokerJvm(dir: string): string[] {
  return [
    ...JVM_SMALL,
    '-Xms128m',
    '-Xmx512m',
    '-Dorg.slf4j.simpleLogger.showDateTime=true',
    '-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS',
    `-XX:ErrorFile=${join(dir, 'hs_err_%p.log')}`,
  ]
}

/** Writes the cluster id and the first metadata (SCRAM users), once in the life of the folder. */
async function format(dir: string, confFile: string, version: string, security: KafkaSecurity): Promise<void> {
  const state = join(dir, 'state')
  if (existsSync(join(state, 'meta.properties'))) return
  rmSync(state, { recursive: true, force: true }) // what an interrupted format left
  const users = scramUsers(security)
  const template = join(kafkaCacheDir(version), 'formatted')
  if (users.length === 0 && existsSync(template)) return cpSync(template, state, { recursive: true })
  const args = ['format', '--cluster-id', CLUSTER_ID, '--config', confFile, ...users]
  await kafkaTool('kafka.tools.StorageTool', args, { version })
  if (users.length === 0) keepAsTemplate(state, template)
}

// A formatted folder names no path and no port, so a copy serves the next broker and saves it a JVM's start.
function keepAsTemplate(state: string, template: string): void {
  const copy = mkdtempSync(`${template}-`)
  cpSync(state, copy, { recursive: true })
  renameOnce(copy, template)
  rmSync(copy, { recursive: true, force: true })
}

function scramUsers(security: KafkaSecurity): string[] {
  const { sasl } = security
  if (sasl === undefined || sasl.mechanism === 'PLAIN') return []
  return Object.entries(sasl.users).flatMap(([name, password]) => ['--add-scram', `${sasl.mechanism}=[name=${name},password=${password}]`])
}
