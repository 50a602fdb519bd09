/** How a command gets its figures: from the running daemon, else from the files it left. */
import { ControlClient } from '../../adapters/control/client.ts'
import { thisHost } from '../../config/host.ts'
import { loadConfig, type LoadedConfig } from '../../config/load.ts'
import { GatewayError } from '../errors.ts'
import { fromFiles } from './from-files.ts'

export interface GlobalOptions {
  readonly config: string
  readonly json?: boolean
}

export interface Answer {
  /** False when the daemon is down and the files answered. */
  readonly live: boolean
  readonly document: unknown
}

/** A question that the files can answer too. */
export async function ask(options: GlobalOptions, path: string): Promise<Answer> {
  const loaded = load(options)
  try {
    return { live: true, document: await call(loaded, 'get', path) }
  } catch (error) {
    if (!(error instanceof GatewayError) || error.kind !== 'transient') throw error
    return { live: false, document: await fromFiles(options.config, path, error) }
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
