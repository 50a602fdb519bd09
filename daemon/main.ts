import { Command, CommanderError } from 'commander'
import { STANDARD_FILE, thisHost } from '../config/host.ts'
import { loadConfig } from '../config/load.ts'
import { ConfigError, formatProblem } from '../config/problem.ts'
import { SystemClock } from '../adapters/host/clock.ts'
import { compose, type Gateway } from './compose.ts'
import { serviceState } from './compose/service.ts'
import { loadForStart, type Start } from './compose/starting.ts'
import { takenPorts, withOwner } from './compose/taken-port.ts'
import { GatewayError, messageOf } from './errors.ts'
import { EXIT } from './exit.ts'
import type { ServiceState } from './service-state.ts'
import { VERSION } from './version.ts'

/** What an end may take beside the drain. */
const GRACE_MS = 2_000

/** `edge-gateway run | check`. Sets the exit code, or ends the program with it. `running`: all is loaded and started. */
export async function main(argv: readonly string[], running: () => void): Promise<void> {
  try {
    await gatewayProgram(running).parseAsync([...argv])
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage
    else process.exit(failed(error))
  }
}

/** All commands, not yet run. */
export function gatewayProgram(running: () => void): Command {
  const program = new Command('edge-gateway')
    .description('Gathers device logs over MQTT, keeps them safe, and forwards them to Kafka exactly once')
    .version(VERSION)
    .exitOverride()
  program
    .command('run')
    .description('run the daemon in the foreground; SIGTERM drains and stops, SIGHUP reloads the configuration')
    .option('--config <file>', 'the configuration file', STANDARD_FILE)
    .action((options: { config: string }) => run(options.config, running))
  program
    .command('check')
    .description('check the configuration and say what is wrong, with line and column')
    .option('--config <file>', 'the configuration file', STANDARD_FILE)
    .addHelpText('after', '\nExample:\n  edge-gateway check --config /etc/edge-gateway/config.yaml')
    .action((options: { config: string }) => check(options.config))
  return program
}

function check(path: string): void {
  const { settings, warnings } = loadConfig(path, [], thisHost())
  for (const warning of warnings) console.error(formatProblem(warning))
  for (const taken of takenPorts(settings)) console.error(`${path}: ${taken}`)
  console.log(`${path} is valid: gateway ${settings.gateway.id}, buffer in ${settings.gateway.dataDir}`)
}

/** Ends the program itself: a timer or socket that a library forgot must not keep a stopped daemon alive. */
async function run(path: string, running: () => void): Promise<void> {
  const clock = new SystemClock()
  const service = await serviceState(clock, (text) => console.error(text))
  service.starting()
  const start = loaded(path, clock, service)
  if (start.trial !== undefined) start.mark.begin(start.trial)
  const gateway = await compose(start)
  for (const warning of start.layered.loaded.warnings)
    gateway.log.warn({ problem: formatProblem(warning) }, 'the configuration has a warning')
  crashOnFaults(gateway)
  const stop = new AbortController()
  onSignals(gateway, stop, service)
  try {
    await gateway.start(stop.signal)
    running()
    service.running(() => gateway.snapshot())
    await Promise.race([aborted(stop.signal), gateway.ended()])
  } catch (thrown) {
    if (!stop.signal.aborted) {
      const error = withOwner(thrown)
      gateway.log.error(fieldsOf(error), `the daemon ends: ${messageOf(error)}`)
      service.failed(messageOf(error))
      // Without the settings on trial the next start may succeed, whatever the error says.
      process.exit(gateway.onTrial ? EXIT.temporary : codeOf(error))
    }
  }
  service.stopping(gateway.drainMs + GRACE_MS)
  const late = setTimeout(() => endByForce(gateway), gateway.drainMs + GRACE_MS)
  await gateway.stop()
  clearTimeout(late)
  process.exit(EXIT.ok)
}

function loaded(path: string, clock: SystemClock, service: ServiceState): Start {
  try {
    return loadForStart(path, clock)
  } catch (error) {
    service.failed(messageOf(error))
    throw error
  }
}

/** A disk that hangs holds the buffer's thread in the kernel, and `process.exit` would wait for it for ever. */
function endByForce(gateway: Gateway): void {
  gateway.log.error({}, 'the disk does not answer; ending by force; what was acknowledged is safe')
  process.kill(process.pid, 'SIGKILL')
}

/** What no port declared is a fault in the program: the state in memory can't be trusted, the one on disk can (G1). */
function crashOnFaults(gateway: Gateway): void {
  const crash = (error: unknown): void => {
    gateway.log.error(
      { ...fieldsOf(error), stack: error instanceof Error ? error.stack : undefined },
      'a fault in the program; it ends, and what was acknowledged is safe',
    )
    process.exit(EXIT.software)
  }
  process.on('uncaughtException', crash)
  process.on('unhandledRejection', crash)
}

function onSignals(gateway: Gateway, stop: AbortController, service: ServiceState): void {
  const end = (signal: string): void => {
    if (stop.signal.aborted) {
      gateway.log.warn({ signal }, 'second signal: work in progress is abandoned; what was acknowledged is safe')
      setTimeout(() => endByForce(gateway), GRACE_MS)
      void gateway.abandon().then(() => process.exit(EXIT.ok))
      return
    }
    gateway.log.info({ signal }, 'stopping: accepted work is finished first')
    stop.abort()
  }
  process.on('SIGTERM', () => end('SIGTERM'))
  process.on('SIGINT', () => end('SIGINT'))
  process.on('SIGHUP', () => void service.reloading(() => gateway.reload()))
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

/** Before there is a log. */
function failed(error: unknown): number {
  console.error(messageOf(error))
  if (error instanceof GatewayError && error.remedy !== undefined) console.error(`  try: ${error.remedy}`)
  return codeOf(error)
}

function codeOf(error: unknown): number {
  if (error instanceof ConfigError) return EXIT.config
  if (!(error instanceof GatewayError)) return EXIT.software
  if (error.kind === 'saturated' || error.kind === 'transient') return EXIT.temporary
  if (error.kind === 'rejected') return EXIT.config
  return EXIT.io
}

function fieldsOf(error: unknown): object {
  return {
    err: messageOf(error),
    kind: error instanceof GatewayError ? error.kind : undefined,
    remedy: error instanceof GatewayError ? error.remedy : undefined,
  }
}
