import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { kafkaProperties } from './kafka-config.ts';
import type { KafkaPorts, KafkaProperties, KafkaSecurity } from './kafka-config.ts';
import { DEFAULT_KAFKA_VERSION, kafkaJars } from './kafka-jars.ts';
import { brokerAnswers } from './kafka-ready.ts';
import { JVM_SMALL, javaArgs, kafkaTool } from './kafka-tool.ts';
import type { ToolOptions, ToolResult } from './kafka-tool.ts';
import { freePort } from './ports.ts';
import { startService } from './service.ts';
import type { Service } from './service.ts';

export interface KafkaOptions extends KafkaSecurity {
  /** Keeps the broker's state: the same folder and port give the same broker again. */
  readonly dir: string;
  readonly port?: number;
  /** The port that the broker names to clients. Set it to a proxy's. Default: `port`. */
  readonly advertisedPort?: number;
  readonly version?: string;
  /** Written to server.properties after ours, so they win. */
  readonly properties?: KafkaProperties;
  readonly guarded?: boolean;
}

export interface KafkaService extends Service {
  readonly version: string;
  /** A listener in the clear that is never behind a proxy, with all rights. For tools and for looking on. */
  readonly internalEndpoint: string;
  /** Runs a Kafka tool against the internal listener; adds `--bootstrap-server`. */
  tool(mainClass: string, args: readonly string[], options?: Omit<ToolOptions, 'version'>): Promise<ToolResult>;
}

const CLUSTER_ID = 'ZWRnZS1nYXRld2F5LTAwMA'; // 16 bytes in base64url, as Kafka wants it

/** Starts a one-node Apache Kafka (KRaft) on 127.0.0.1; resolves when it answers clients. */
export async function startKafka(options: KafkaOptions): Promise<KafkaService> {
  const { dir } = options;
  const version = options.version ?? DEFAULT_KAFKA_VERSION;
  const libs = await kafkaJars(version);
  const ports = await choosePorts(options);
  mkdirSync(dir, { recursive: true });
  const confFile = join(dir, 'server.properties');
  writeFileSync(confFile, kafkaProperties(dir, ports, options, options.properties));
  await format(dir, confFile, version, options);
  const service = await startService({
    name: 'kafka',
    endpoint: `127.0.0.1:${ports.advertised}`,
    port: ports.client,
    dir,
    logFile: join(dir, 'kafka.log'),
    file: 'java',
    args: javaArgs(libs, brokerJvm(dir), 'kafka.Kafka', [confFile]),
    guarded: options.guarded ?? true,
    isReady: () => brokerAnswers(ports.internal),
    readyTimeoutMs: 120_000,
    graceMs: 20_000,
  });
  return asKafka(service, version, `127.0.0.1:${ports.internal}`);
}

// Object.assign would read the live `pid` once and freeze it.
function asKafka(service: Service, version: string, internalEndpoint: string): KafkaService {
  return Object.defineProperties({} as KafkaService, {
    ...Object.getOwnPropertyDescriptors(service),
    version: { value: version, enumerable: true },
    internalEndpoint: { value: internalEndpoint, enumerable: true },
    tool: {
      value: (mainClass: string, args: readonly string[], options: Omit<ToolOptions, 'version'> = {}) =>
        kafkaTool(mainClass, ['--bootstrap-server', internalEndpoint, ...args], { ...options, version }),
    },
  });
}

async function choosePorts(options: KafkaOptions): Promise<KafkaPorts> {
  const client = options.port ?? (await freePort());
  const advertised = options.advertisedPort ?? client;
  return { client, advertised, internal: await freePort(), controller: await freePort() };
}

function brokerJvm(dir: string): string[] {
  return [
    ...JVM_SMALL,
    '-Xms128m',
    '-Xmx512m',
    '-Dorg.slf4j.simpleLogger.showDateTime=true',
    '-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS',
    `-XX:ErrorFile=${join(dir, 'hs_err_%p.log')}`,
  ];
}

/** Writes the cluster id and the first metadata (SCRAM users), once in the life of the folder. */
async function format(dir: string, confFile: string, version: string, security: KafkaSecurity): Promise<void> {
  const state = join(dir, 'state');
  if (existsSync(join(state, 'meta.properties'))) return;
  rmSync(state, { recursive: true, force: true }); // what an interrupted format left
  const args = ['format', '--cluster-id', CLUSTER_ID, '--config', confFile, ...scramUsers(security)];
  await kafkaTool('kafka.tools.StorageTool', args, { version });
}

function scramUsers(security: KafkaSecurity): string[] {
  const { sasl } = security;
  if (sasl === undefined || sasl.mechanism === 'PLAIN') return [];
  return Object.entries(sasl.users).flatMap(([name, password]) => [
    '--add-scram',
    `${sasl.mechanism}=[name=${name},password=${password}]`,
  ]);
}
