/**
 * Patches of each kind on a real daemon that kills itself at a chosen moment: before or after a record in the journal,
 * and around the telling of a result. The program is a copy whose journal dies; nothing else in it is changed.
 */
import { createHash } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import mqtt from 'mqtt'
import { envelopeText, seal } from '../../adapters/signing/dsse.ts'
import { publicTextOf } from '../../adapters/signing/keys.ts'
import type { Json } from '../../config/merge.ts'
import type { Patch, PatchKind } from '../../daemon/patch/document.ts'
import type { Etcd } from '../../daemon/patch/ports.ts'
import { keys, PATCH_TYPE } from '../../daemon/patch/records.ts'
import type { Result, RolloutState } from '../../daemon/patch/records.ts'
import { readMemory } from '../../store/memory.ts'
import { FakeFleet } from '../fakes/patch-agent.ts'
import { openBox, until, type Box } from './box.ts'
import { patchedProgram } from './patched.ts'
import type { Service, ServiceScope } from '../services/index.ts'

const JOURNAL = 'daemon/patch/runner/journal.ts'
const AGENT = 'daemon/patch/agent/agent.ts'
const WRITE = '    await this.#memory.write({ [RUN]: toJson(run) })\n'
const FINISH = '    await this.#memory.write({\n      ...(await this.#consequences'
const FINISHED = '    this.#run = isKept ? { ...run, broken: true } : undefined\n'
const KEEP = '    await memory.write({ [name]: { ...outcome, scope, token: start.token, retry: start.retry } })\n'
const DIES = "import { passMoment } from '../../moment.ts'\n"
const MOMENT = `import { existsSync, readFileSync, rmSync } from 'node:fs'
let passed = 0
export function passMoment(): void {
  const file = process.env['KILL_FILE'] ?? ''
  if (!existsSync(file)) return void (passed = 0)
  if (passed++ < Number(readFileSync(file, 'utf8'))) return
  rmSync(file)
  process.kill(process.pid, 'SIGKILL')
}
`

export async function mortalProgram(dir: string): Promise<string> {
  const program = await patchedProgram(dir, [
    {
      file: JOURNAL,
      from: "import { GatewayError } from '../../errors.ts'\n",
      to: `import { GatewayError } from '../../errors.ts'\n${DIES}`,
    },
    { file: JOURNAL, from: WRITE, to: `    passMoment()\n${WRITE}    passMoment()\n` },
    { file: JOURNAL, from: FINISH, to: `    passMoment()\n${FINISH}` },
    { file: JOURNAL, from: FINISHED, to: `    passMoment()\n${FINISHED}` },
    { file: AGENT, from: "import { Bell } from './bell.ts'\n", to: `import { Bell } from './bell.ts'\n${DIES}` },
    { file: AGENT, from: KEEP, to: `    passMoment()\n${KEEP}    passMoment()\n` },
  ])
  writeFileSync(join(dir, 'daemon', 'moment.ts'), MOMENT)
  return program
}

export type Way = 'forward' | 'back' | 'undo'

export interface Tools {
  readonly scope: ServiceScope
  readonly etcd: Etcd
  readonly service: Service
  readonly prefix: string
  readonly key: KeyObject
  readonly program: string
}

/** One box with patches of one kind. */
export class MortalBox {
  readonly kind: PatchKind
  readonly box: Box
  readonly fleet: FakeFleet
  readonly told: string[] = []
  readonly #tools: Tools
  readonly #bad = new Set<string>()
  readonly #root: string
  #url = ''
  #sequence = 0
  /** What a user of the box sees. */
  #inForce: string | undefined

  constructor(tools: Tools, kind: PatchKind, box: Box, root: string) {
    this.kind = kind
    this.box = box
    this.fleet = new FakeFleet(tools.etcd)
    this.#tools = tools
    this.#root = root
  }

  get gateway(): string {
    return `gw-${this.kind}`
  }

  static async start(tools: Tools, kind: PatchKind): Promise<MortalBox> {
    const { scope, service, prefix, key, program } = tools
    const dir = scope.folder()
    const root = join(dir, 'app')
    mkdirSync(root)
    const trusted = { ed25519: publicTextOf(key), kinds: ['config', 'files', 'device'], sites: 'all' }
    const config: Json = {
      gateway: { id: `gw-${kind}`, fleet: 'acme' },
      etcd: { endpoints: [service.endpoint], prefix },
      patches: { lockTtl: '5s', trustedKeys: { ops: trusted }, roots: { app: root } },
      shutdown: { drain: '1s' },
    }
    const launch = { program, env: { KILL_FILE: join(dir, 'kill') } }
    const mortal = new MortalBox({ ...tools, program: launch.env.KILL_FILE }, kind, await openBox(scope, { config, launch }), root)
    await mortal.#serve()
    mortal.#inForce = await mortal.look()
    return mortal
  }

  /** Until no moment is left. `skip`: only each so manieth moment. Returns how often it was killed. */
  async killAlong(way: Way, first: number, skip: number): Promise<number> {
    for (let moment = first, kills = 0; ; moment += skip) {
      const died = await this.#once(way, moment)
      if (!died) return kills
      kills += 1
    }
  }

  async #once(way: Way, moment: number): Promise<boolean> {
    const id = `${this.kind}-${way}-${moment}`
    const before = this.#inForce
    const digest = await this.#push(id, way === 'back')
    if (way === 'undo') {
      await this.#open(id, digest)
      await this.#untilTold(id)
    }
    writeFileSync(this.#tools.program, String(moment))
    if (way === 'undo') await this.#say(id, digest, { phase: 'rolling-back', undo: 'all' })
    else await this.#open(id, digest)
    const told = this.#untilTold(id, way === 'undo' ? ['rolled-back'] : TERMINAL)
    const died = await Promise.race([told.then(() => false), this.box.gateway.ended().then(() => true)])
    if (died) await this.box.gateway.start()
    else rmSync(this.#tools.program)
    const result = await told
    await this.#assertWhole(id, way, result, before)
    await this.#say(id, digest, { phase: result.state === 'completed' ? 'completed' : 'cancelled' })
    return died
  }

  async #assertWhole(id: string, way: Way, { state, reason }: Result, before: string | undefined): Promise<void> {
    const wanted = state === 'completed' ? id : before
    const allowed = { forward: ['completed', 'interrupted'], back: ['failed', 'interrupted'], undo: ['rolled-back'] }[way]
    const problem = (what: string): Error => new Error(`${id}: ${what}; its result is ${state} (${reason ?? ''})`)
    if (!allowed.includes(state)) throw problem('that is no end of this way')
    const seen = await until(
      `${id}: ${wanted ?? 'nothing'} in force`,
      async () => ((await this.look()) === wanted ? { wanted } : false),
      20_000,
    ).catch((error: unknown) => error as Error)
    if (seen instanceof Error) throw problem(`${seen.message}, but ${await this.look()}`)
    this.#inForce = wanted
    await until(`${id}: nothing is left behind`, async () => (await this.leftovers()).length === 0, 20_000).catch(async () => {
      throw problem(`left behind: ${(await this.leftovers()).join(', ')}`)
    })
    this.told.push(id)
  }

  /** Keys of etcd and of the memory, and files, that belong to no patch in force. */
  async leftovers(): Promise<readonly string[]> {
    const locks = (await this.fleet.keysBelow(`locks/${this.kind}`)).map((key) => `etcd ${key}`)
    const memory = [...this.#remembered('journal/').keys(), ...this.#remembered('outbound/').keys()]
    const trials = [...this.#remembered('layers/')]
      .filter(([, layer]) => (layer as { trial: boolean }).trial)
      .map(([key]) => `trial ${key}`)
    const mark = existsSync(join(this.box.dataDir, 'trial-start.json')) ? ['trial-start.json'] : []
    const files = existsSync(this.#root) ? readdirSync(this.#root, { recursive: true, encoding: 'utf8' }) : []
    const odd = files.filter((name) => name.includes('.new') || name.includes('.incoming') || name.endsWith('.begun'))
    return [...locks, ...memory, ...trials, ...mark, ...odd]
  }

  /** The id of the patch in force, as the daemon's users see it; undefined: none. */
  async look(): Promise<string | undefined> {
    if (this.kind === 'files')
      return existsSync(join(this.#root, 'current')) ? readFileSync(join(this.#root, 'current', 'id'), 'utf8') : undefined
    if (this.kind === 'device') return this.#retained()
    const { values } = (await this.box.gateway.ask('/config')) as { values: { path: string; value: Json }[] }
    return values.find(({ path }) => path === 'gateway.labels.patch')?.value as string | undefined
  }

  async #retained(): Promise<string | undefined> {
    const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${this.box.port}`, {
      clientId: 'dev-1',
      protocolVersion: 4,
      reconnectPeriod: 0,
    })
    try {
      const heard = new Promise<string | undefined>((resolve) => {
        client.on('message', (_, payload) => resolve((JSON.parse(payload.toString()) as { id: string }).id))
        setTimeout(() => resolve(undefined), 400)
      })
      await client.subscribeAsync('devices/dev-1/settings', { qos: 1 })
      return await heard
    } finally {
      await client.endAsync(true)
    }
  }

  /** Artifacts, and the health check: a bad patch is healthy until it is in force. */
  async #serve(): Promise<void> {
    const server = createServer((request, response) => {
      const id = request.url?.slice(1) ?? ''
      const isBad = this.#bad.has(id) && this.#holds(id)
      response.writeHead(isBad ? 500 : 200).end(id)
    })
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve))
    this.#tools.scope.atEnd(() => void server.close())
    this.#url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  }

  #holds(id: string): boolean {
    if (this.kind === 'files')
      return existsSync(join(this.#root, 'current')) && readFileSync(join(this.#root, 'current', 'id'), 'utf8') === id
    const layers = this.#remembered(this.kind === 'config' ? 'layers/' : 'device-settings/')
    return [...layers.keys()].some((key) => key.endsWith(`-${id}`))
  }

  #remembered(prefix: string): ReadonlyMap<string, unknown> {
    return readMemory(this.box.dataDir, prefix).entries
  }

  #specOf(id: string): object {
    if (this.kind === 'config') return { gateway: { labels: { patch: id } } }
    if (this.kind === 'device') return { devices: 'dev-*', topic: 'devices/{device}/settings', payload: { id } }
    const sha256 = createHash('sha256').update(id).digest('hex')
    return { root: 'app', version: id, artifacts: [{ url: this.#url + id, sha256, bytes: id.length, path: 'id' }] }
  }

  async #push(id: string, isBad: boolean): Promise<string> {
    if (isBad) this.#bad.add(id)
    const { kind, gateway } = this
    this.#sequence += 1
    const document = {
      ...{ apiVersion: 'edge/v1', kind, id, fleet: 'acme', channel: kind, sequence: this.#sequence },
      expires: new Date(Date.now() + 86_400_000).toISOString(),
      target: { gateways: [gateway] },
      spec: this.#specOf(id),
      health: { checks: [`http:${this.#url}${id}`], consecutive: 1, deadline: '1s', bake: '0s' },
      rollout: { concurrency: { scope: kind, slots: 1 } },
    }
    const value = Buffer.from(envelopeText(seal(PATCH_TYPE, Buffer.from(JSON.stringify(document)), this.#tools.key)))
    await this.#tools.etcd.transact({ compare: [{ key: keys.spec(id), create: 0 }], then: [{ put: keys.spec(id), value }] })
    return createHash('sha256').update(value).digest('hex')
  }

  async #open(id: string, digest: string): Promise<void> {
    const cohort = Buffer.from(JSON.stringify({ schema: 1, at: new Date().toISOString(), gateways: [this.gateway] }))
    await this.#tools.etcd.transact({ compare: [], then: [{ put: keys.cohort(id, 0), value: cohort }] })
    await this.#say(id, digest, {})
  }

  async #say(id: string, digest: string, changes: Partial<RolloutState>): Promise<void> {
    await this.fleet.state({ id } as Patch, { digest, ...changes })
  }

  async #untilTold(id: string, states: readonly string[] = TERMINAL): Promise<Result> {
    return until(
      `${id} is told`,
      async () => {
        const result = await this.fleet.result(this.gateway, id)
        return result !== undefined && states.includes(result.state) && result
      },
      60_000,
    )
  }
}

export const TERMINAL: readonly string[] = ['refused', 'completed', 'failed', 'inconclusive', 'interrupted', 'rolled-back', 'broken']
