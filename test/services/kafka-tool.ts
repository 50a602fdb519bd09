import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { DEFAULT_KAFKA_VERSION, kafkaJars } from './kafka-jars.ts'

const run = promisify(execFile)

export interface ToolOptions {
  readonly version?: string
  /** Fed to the tool's standard input. */
  readonly input?: string
  readonly timeoutMs?: number
}

export interface ToolResult {
  readonly stdout: string
  readonly stderr: string
}

/** Short-lived and small programs start faster with the first compiler only and the serial collector. */
export const JVM_SMALL = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xshare:auto'] as const

/** Arguments of `java` for a class of Kafka's jars. */
export function javaArgs(libs: string, jvm: readonly string[], mainClass: string, args: readonly string[]): string[] {
  return [...jvm, '-cp', join(libs, '*'), mainClass, ...args]
}

/**
 * Runs one of Kafka's own tools, for example
 * `kafkaTool('org.apache.kafka.tools.TopicCommand', ['--bootstrap-server', …, '--list'])`.
 * A tool needs about 2 s. Rejects with the tool's output when it fails.
 */
export async function kafkaTool(mainClass: string, args: readonly string[], options: ToolOptions = {}): Promise<ToolResult> {
  const libs = await kafkaJars(options.version ?? DEFAULT_KAFKA_VERSION)
  const jvm = [...JVM_SMALL, '-Xmx256m', '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn']
  const call = run('java', javaArgs(libs, jvm, mainClass, args), {
    timeout: options.timeoutMs ?? 120_000,
    maxBuffer: 64 * 1024 * 1024,
  })
  call.child.stdin?.end(options.input ?? '')
  try {
    return await call
  } catch (cause) {
    const { stdout = '', stderr = '' } = cause as Partial<ToolResult>
    throw new Error(`${mainClass} ${args.join(' ')} failed:\n${stdout}${stderr}`, { cause })
  }
}
