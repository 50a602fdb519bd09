/** The folder, the topics and the configuration of one gateway under test. */
import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { stringify } from 'yaml'
import { GatewayProgram } from './gateway.ts'

export const EDGECTL = fileURLToPath(new URL('../../daemon/cli/edgectl.js', import.meta.url))
const run = promisify(execFile)

export interface GatewaySetup {
  readonly dir: string
  readonly configFile: string
  readonly gateway: GatewayProgram
}

/** Writes `config` (the file's shape, DESIGN of the config) with the data directory set, and names the program. */
export async function setUpGateway(dir: string, config: Record<string, unknown>): Promise<GatewaySetup> {
  const dataDir = join(dir, 'state')
  await mkdir(dataDir, { recursive: true })
  const configFile = join(dir, 'config.yaml')
  const named = (config['gateway'] ?? {}) as Record<string, unknown>
  await writeFile(configFile, stringify({ ...config, gateway: { id: 'gw-test', ...named, dataDir } }))
  return { dir, configFile, gateway: new GatewayProgram(configFile, join(dataDir, 'control.sock'), join(dir, 'gateway.log')) }
}

/** Creates the topics the way an operator does. */
export async function setUpTopics(configFile: string, partitions: number): Promise<void> {
  await edgectl(['kafka', 'setup', '--config', configFile, '--partitions', String(partitions)])
}

/** Runs the real command; rejects with its output when it fails. */
export async function edgectl(args: readonly string[]): Promise<string> {
  const { stdout } = await run(process.execPath, [EDGECTL, ...args], { maxBuffer: 64 * 1024 * 1024 })
  return stdout
}
