/** Several real gateways on one machine, each with devices of its own, and the operator's real commands. */
import { spawn } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { stringify } from 'yaml'
import type { GatewayRow } from '../../daemon/cli/fleet-row.ts'
import type { RolloutLine } from '../../daemon/cli/patch/looking.ts'
import { Fleet } from '../fleet/fleet.ts'
import { edgectl, EDGECTL, setUpGateway, setUpTopics } from '../fleet/setup.ts'
import { freePort } from '../services/index.ts'
import type { Served } from './account.ts'
import { baseConfig } from './logs.ts'
import type { PayloadOf } from './payloads.ts'

const CONTROLLERS = 2

export interface PatchedFleetOptions {
  readonly dir: string
  readonly broker: string
  readonly etcd: string
  readonly devices: number
  readonly payloadOf: PayloadOf
}

export class PatchedFleet {
  readonly served: Served[] = []
  readonly #options: PatchedFleetOptions
  readonly #operator: string
  readonly #key: string
  #publicKey = ''
  #count = 0

  constructor(options: PatchedFleetOptions) {
    this.#options = options
    this.#operator = join(options.dir, 'operator.yaml')
    this.#key = join(options.dir, 'ops.key')
  }

  /** Makes the key, and the configuration of the operator: where etcd is, and whom the gateways trust. */
  async prepare(): Promise<void> {
    this.#publicKey = (JSON.parse(await edgectl(['--json', 'patch', 'keygen', '--out', this.#key])) as { publicKey: string }).publicKey
    await writeFile(this.#operator, stringify({ gateway: { fleet: 'demo' }, ...this.#patching(false) }))
  }

  #patching(controller: boolean): Record<string, unknown> {
    const trustedKeys = { ops: { ed25519: this.#publicKey, kinds: ['config'], sites: 'all' } }
    return { etcd: { endpoints: [this.#options.etcd] }, patches: { ...(controller ? { controller } : {}), lockTtl: '5s', trustedKeys } }
  }

  /** The next gateway, ready; its devices publish. */
  async add(): Promise<void> {
    this.#count += 1
    const number = this.#count
    const id = `gw-${number}`
    const { dir, broker, devices, payloadOf } = this.#options
    const port = await freePort()
    const config = { ...baseConfig(id, broker, port), ...this.#patching(number <= CONTROLLERS), gateway: { id, fleet: 'demo' } }
    const { configFile, gateway } = await setUpGateway(join(dir, id), config)
    if (number === 1) await setUpTopics(configFile, 4)
    const fleet = new Fleet({ host: '127.0.0.1', port, name: `${id}-device`, devices, ratePerDevice: 4, noisyRate: 0, payloadOf })
    this.served.push({ gateway, fleet })
    await gateway.start()
    fleet.start()
  }

  /** Check, sign and push, as an operator does it. */
  async push(id: string, document: object): Promise<void> {
    const [file, signed] = [join(this.#options.dir, `${id}.yaml`), join(this.#options.dir, `${id}.dsse`)]
    await writeFile(file, stringify({ apiVersion: 'edge/v1', id, fleet: 'demo', ...document }))
    await edgectl(['patch', 'check', file, '--config', this.#operator])
    await edgectl(['patch', 'sign', file, '--key', this.#key, '--out', signed])
    await edgectl(['--config', this.#operator, 'patch', 'push', signed])
  }

  /** `patch status ID --watch`, each line as it comes. Resolves with its exit code; ended after `mostMs`. */
  async watch(id: string, onLine: (line: string) => void, mostMs: number): Promise<number> {
    const child = spawn(process.execPath, [EDGECTL, '--config', this.#operator, 'patch', 'status', id, '--watch'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: mostMs,
      killSignal: 'SIGKILL',
    })
    createInterface(child.stdout).on('line', onLine)
    createInterface(child.stderr).on('line', onLine)
    return new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (code) => resolve(code ?? -1))
    })
  }

  async rollout(id: string): Promise<RolloutLine> {
    const { rollouts } = (await this.#asked(['patch', 'status'])) as { rollouts: RolloutLine[] }
    const found = rollouts.find(({ patch }) => patch === id)
    if (found === undefined) throw new Error(`edgectl patch status does not show ${id}`)
    return found
  }

  /** By id. */
  async gateways(): Promise<ReadonlyMap<string, GatewayRow>> {
    const { gateways } = (await this.#asked(['fleet'])) as { gateways: GatewayRow[] }
    return new Map(gateways.map((row) => [row.gateway, row]))
  }

  async fleetView(): Promise<string> {
    return edgectl(['--config', this.#operator, 'fleet'])
  }

  async #asked(words: readonly string[]): Promise<unknown> {
    return JSON.parse(await edgectl(['--config', this.#operator, '--json', ...words]))
  }

  async end(): Promise<void> {
    for (const { fleet } of this.served) fleet.close()
    await Promise.all(this.served.map(({ gateway }) => gateway.end('SIGKILL')))
  }
}
