/** How a command gets its figures: from the running daemon, else from the files it left. */
import { ControlClient, DaemonUnreachable } from '../../adapters/control/client.ts'
import { thisHost } from '../../config/host.ts'
import { loadConfig, type LoadedConfig } from '../../config/load.ts'
import { fromFiles } from './from-files.ts'

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
  const loaded = load(options)
  try {
    return { live: true, silent: false, document: await call(loaded, 'get', path) }
  } catch (error) {
    if (!(error instanceof DaemonUnreachable)) throw error
    const silent = error.why === 'silent'
    const document = await fromFiles(options.config, path, error)
    if (!TELLS.has(path))
      console.error(
        silent
          ? 'note: the daemon runs, but does not answer; this is from its files'
          : 'note: the daemon is not running; this is from its files',
      )
    return { live: false, silent, document }
  }
}

/** A request that only the running daemon can carry out. */
export function command(options: GlobalOptions, path: string): Promise<unknown> {
  return call(load(options), 'post', path)
}

export function load(options: GlobalOptions): LoadedConfig {
  return loadConfig(options.config, [], thisHost())
}

async function call(loaded: LoadedConfig, method: 'get' | 'post', path: string): Promise<unknown> {
  const client = new ControlClient(loaded.settings.control.socket)
  try {
    return await client[method](path)
  } finally {
    await client.close()
  }
}
