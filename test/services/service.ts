import { existsSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { endProgram, isAlive, lastLines, launch, signalProgram, waitForEnd } from './program.ts'
import type { Launched, ProgramIdentity } from './program.ts'

export interface ServiceSpec {
  readonly name: string
  readonly endpoint: string
  readonly port: number
  /** Folder with the service's configuration, state and log. */
  readonly dir: string
  readonly logFile: string
  readonly file: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Resolves to true once the service answers; may reject or give false before that. */
  readonly isReady: () => Promise<boolean>
  readonly readyTimeoutMs: number
  /** Time between SIGTERM and SIGKILL. */
  readonly graceMs: number
}

export interface Service {
  readonly name: string
  /** What a client is given: `mqtt://127.0.0.1:1883`, `http://127.0.0.1:2379`, `127.0.0.1:9092`. */
  readonly endpoint: string
  readonly port: number
  readonly dir: string
  readonly logFile: string
  /** The current pid; it changes with `restart()`. */
  readonly pid: number
  readonly identity: ProgramIdentity
  alive(): boolean
  /** Starts again after `stop()` or `kill()`: same folder, same port. Resolves when it answers. */
  start(): Promise<void>
  /** SIGTERM, SIGKILL after the grace time. Resolves when the program has gone; idempotent. */
  stop(): Promise<void>
  /** Sends the signal; for SIGKILL, SIGTERM and SIGINT waits until the program has gone. */
  kill(signal?: NodeJS.Signals): Promise<void>
  /** stop (or what is left of it) and start. */
  restart(): Promise<void>
  /** SIGSTOP: sockets stay open, nothing answers. */
  pause(): void
  /** SIGCONT. */
  resume(): void
  /** This run of it outlives this program from here on. Until then it is killed when this program ends, however it ends. */
  release(): void
}

/** Starts the program and waits until it answers; on failure nothing is left running. */
export async function startService(spec: ServiceSpec): Promise<Service> {
  return createService(spec, await run(spec))
}

async function run(spec: ServiceSpec): Promise<Launched> {
  const launched = await launch(spec)
  const { program } = launched
  try {
    await waitUntilReady(spec, program)
  } catch (error) {
    await endProgram(program, 0)
    throw error
  }
  return launched
}

function createService(spec: ServiceSpec, first: Launched): Service {
  let { program, release } = first
  const service: Service = {
    name: spec.name,
    endpoint: spec.endpoint,
    port: spec.port,
    dir: spec.dir,
    logFile: spec.logFile,
    get pid() {
      return program.pid
    },
    get identity() {
      return program
    },
    alive: () => isAlive(program),
    stop: () => endProgram(program, spec.graceMs),
    async start() {
      if (isAlive(program)) return
      ;({ program, release } = await run(spec))
    },
    async kill(signal = 'SIGKILL') {
      signalProgram(program, signal)
      if (!['SIGKILL', 'SIGTERM', 'SIGINT'].includes(signal)) return
      if (!(await waitForEnd(program, 60_000))) throw new Error(`${spec.name} ignored ${signal} for 60 s`)
    },
    async restart() {
      await service.stop()
      await service.start()
    },
    pause: () => void signalProgram(program, 'SIGSTOP'),
    release: () => release(),
    resume: () => void signalProgram(program, 'SIGCONT'),
  }
  return service
}

async function waitUntilReady(spec: ServiceSpec, program: ProgramIdentity): Promise<void> {
  const deadline = performance.now() + spec.readyTimeoutMs
  let reason = 'no answer'
  while (performance.now() < deadline) {
    if (!isAlive(program)) throw new Error(`${spec.name} ended during its start${tail(spec)}`)
    try {
      if (await spec.isReady()) return
    } catch (error) {
      reason = (error as Error).message
    }
    await sleep(25)
  }
  throw new Error(`${spec.name} not ready after ${spec.readyTimeoutMs} ms (${reason})${tail(spec)}`)
}

function tail(spec: ServiceSpec): string {
  return existsSync(spec.logFile) ? `; ${spec.logFile} ends with:\n${lastLines(spec.logFile)}` : ''
}
