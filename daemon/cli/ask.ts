/** How a command gets its figures: from the running daemon, else from the files it left. */
import { ControlClient, DaemonUnreachable } from '../../adapters/control/client.ts'
import { controlSockets } from '../../config/control-place.ts'
import { thisHost } from '../../config/host.ts'
import { loadConfig, type LoadedConfig } from '../../config/load.ts'
import { ConfigError } from '../../config/problem.ts'
import { messageOf } from '../errors.ts'
import { fromFiles } from './from-files.ts'
import { harmless } from './text.ts'

export interface GlobalOptions {
  readonly config: string
  readonly json?: boolean
}

export interface Answer {
  /** False when the daemon does not answer and the files did. */
  readonly live: boolean
  /** The daemon runs, and does not answer. */
  readonly silent: boolean
  readonly document: unknown
}

/** Their text says itself who answered. */
const TELLS = new Set(['/status', '/buffer'])

/** A question that the files can answer too. */
export async function ask(options: GlobalOptions, path: string): Promise<Answer> {
  const { client, fault } = await connect(options)
  try {
    const document = await client.get(path)
    return { live: true, silent: false, document: fault === undefined ? document : { ...(document as object), invalidFile: fault.message } }
  } catch (error) {
    if (!(error instanceof DaemonUnreachable) || fault !== undefined) throw error
    const silent = error.why === 'silent'
    const document = await fromFiles(options.config, path, error)
    if (!TELLS.has(path))
      console.error(
        silent
          ? 'note: the daemon runs, but does not answer; this is from its files'
          : 'note: the daemon is not running; this is from its files',
      )
    return { live: false, silent, document }
  } finally {
    await client.close()
  }
}

/** A request that only the running daemon can carry out. */
export async function command(options: GlobalOptions, path: string): Promise<unknown> {
  const { client } = await connect(options)
  try {
    return await client.post(path)
  } finally {
    await client.close()
  }
}

export interface Connected {
  /** To be closed. */
  readonly client: ControlClient
  /** Of the files now: the daemon still runs on what they were. */
  readonly fault?: ConfigError
}

/**
 * The way to the daemon of these files. When they are not valid, whoever answers at a place that can still be read from
 * them: that is said when the command ends, which then does not end with 0. Rejects with the ConfigError when nobody
 * answers there, and with `DaemonUnreachable` when a daemon runs and is silent.
 */
export async function connect(options: GlobalOptions): Promise<Connected> {
  try {
    return { client: new ControlClient(load(options).settings.control.socket) }
  } catch (fault) {
    if (!(fault instanceof ConfigError) || fault.problems.every(({ denied }) => denied === true)) throw fault
    for (const socket of controlSockets(options.config, thisHost())) {
      const client = new ControlClient(socket)
      if (!(await answers(client, fault))) continue
      sayAtTheEnd(fault)
      return { client, fault }
    }
    throw fault
  }
}

export function load(options: GlobalOptions): LoadedConfig {
  return loadConfig(options.config, [], thisHost())
}

/** Closes a client that nobody answers. */
async function answers(client: ControlClient, fault: ConfigError): Promise<boolean> {
  try {
    await client.get('/status')
    return true
  } catch (error) {
    await client.close()
    if (error instanceof DaemonUnreachable && error.why === 'away') return false
    sayAtTheEnd(fault)
    throw error
  }
}

const LOOK = 1

/** Behind the figures, where a screen that scrolls still shows it. */
function sayAtTheEnd(fault: ConfigError): void {
  process.once('exit', () => {
    const lines = messageOf(fault).split('\n')
    console.error(harmless(`the file on the disk is invalid: ${lines.join('\n  ')}\nthe running daemon keeps the old configuration`))
    console.error('  try: correct it before the next restart; `edge-gateway check` says whether it is right')
    process.exitCode = Number(process.exitCode ?? 0) || LOOK
  })
}
