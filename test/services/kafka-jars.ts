import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

export const DEFAULT_KAFKA_VERSION = '4.1.0'

/** Where the jars of a Kafka version are kept between runs. */
export function kafkaCacheDir(version: string): string {
  const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache')
  return join(cache, 'edge-gateway', `kafka-${version}`)
}

/**
 * The folder with Kafka's jars, fetched by Maven at the first call.
 * Two callers may fetch at once: each fills a folder of its own, and the first rename counts.
 */
export async function kafkaJars(version: string): Promise<string> {
  if (!/^[0-9]+(\.[0-9]+)+$/.test(version)) throw new Error(`"${version}" is no Kafka version; write for example 4.1.0`)
  const target = join(kafkaCacheDir(version), 'libs')
  if (existsSync(target)) return target
  mkdirSync(kafkaCacheDir(version), { recursive: true })
  const work = mkdtempSync(join(kafkaCacheDir(version), 'fetch-'))
  try {
    await fetchJars(version, work)
    renameOnce(join(work, 'libs'), target)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return target
}

/** A rename onto a folder that another caller put there first is no error. */
export function renameOnce(from: string, to: string): void {
  try {
    renameSync(from, to)
  } catch (error) {
    if (!existsSync(to)) throw error
  }
}

async function fetchJars(version: string, work: string): Promise<void> {
  process.stderr.write(`fetching Apache Kafka ${version} with Maven\n`)
  writeFileSync(join(work, 'pom.xml'), pom(version))
  const args = ['-B', '-q', '-f', join(work, 'pom.xml'), 'dependency:copy-dependencies', '-DincludeScope=runtime']
  try {
    await run('mvn', [...args, `-DoutputDirectory=${join(work, 'libs')}`], { maxBuffer: 16 * 1024 * 1024 })
  } catch (cause) {
    const output = (cause as { stdout?: string }).stdout ?? ''
    throw new Error(`Maven could not fetch Kafka ${version}. Check the network and the version.\n${output.slice(0, 2_000)}`, { cause })
  }
}

// kafka-tools has TopicCommand and the like. slf4j-simple: Kafka's artifact has no logging backend of its own, and without one the broker is silent.
function pom(version: string): string {
  return `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>edge-gateway</groupId><artifactId>kafka-jars</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>${version}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>${version}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
`
}
