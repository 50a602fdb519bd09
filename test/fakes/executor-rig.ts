/** The executor in a program of its own, behind a socket, over a root and a script in the place of systemctl. */
import { spawn, type ChildProcess } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { RemoteFiles, type RemotePlan } from '../../adapters/executor/client.ts'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import { FilesKind } from '../../adapters/host/releases/files-kind.ts'
import type { FilesPlan } from '../../adapters/host/releases/plan.ts'
import { Hooks } from '../../adapters/host/hooks.ts'
import { SystemdUnits } from '../../adapters/host/units.ts'
import { HttpDownloads } from '../../adapters/http/download.ts'
import { envelopeText, seal } from '../../adapters/signing/dsse.ts'
import { publicTextOf } from '../../adapters/signing/keys.ts'
import type { FilesPatch } from '../../daemon/patch/document.ts'
import type { Accepted, Kind } from '../../daemon/patch/kinds.ts'
import { PATCH_TYPE } from '../../daemon/patch/records.ts'
import type { ServiceScope } from '../services/index.ts'
import { until } from '../fleet/box.ts'
import { fakeSystemctl, sha256 } from './files-rig.ts'

const CHILD = fileURLToPath(new URL('./executor-child.ts', import.meta.url))
export const OPERATOR = generateKeyPairSync('ed25519').privateKey
let sequence = 0

/** What an operator signs for these facts; `changes` are of the document. */
export function signedFiles({ patch }: Accepted<FilesPatch>, changes: object = {}, key = OPERATOR): Accepted<FilesPatch> {
  sequence += 1
  const { id, spec } = patch
  const hook = (one: { command: readonly string[]; timeoutMs: number } | undefined): object | undefined =>
    one && { command: one.command, timeout: `${one.timeoutMs}ms` }
  const document = {
    ...{ apiVersion: 'edge/v1', kind: 'files', id, fleet: 'acme', channel: 'app', sequence },
    expires: '2036-01-01T00:00:00Z',
    target: { gateways: ['gw-1'] },
    spec: {
      ...spec,
      owner: spec.owner && `${spec.owner.user}:${spec.owner.group}`,
      running: hook(spec.running),
      hooks: Object.fromEntries(Object.entries(spec.hooks).map(([name, one]) => [name, hook(one)])),
      artifacts: spec.artifacts.map(({ mode, ...rest }) => ({ ...rest, ...(mode !== undefined && { mode: `0${mode.toString(8)}` }) })),
    },
    ...changes,
  }
  const payload = Buffer.from(JSON.stringify(document))
  const envelope = Buffer.from(envelopeText(seal(PATCH_TYPE, payload, key)))
  return { patch, payload, envelope, digest: sha256(envelope) }
}

export interface ExecutorRig {
  readonly kind: FilesRig
  readonly remote: RemoteFiles
  readonly root: string
  readonly control: string
  readonly socket: string
  readonly stateDir: string
  readonly configFile: string
  readonly calls: () => readonly string[]
  readonly program: Executing
  configure(patches: object): void
}

export type FilesRig = Kind<FilesPatch, FilesPlan>

export interface ExecutorRigOptions {
  readonly patches?: object
  /** A copy of the program, and its environment. */
  readonly program?: string
  readonly env?: Readonly<Record<string, string>>
  /** Starts it again when it ends, as systemd does with the next request. */
  readonly again?: boolean
  readonly idleMs?: number
}

/** The program, and what it said. */
export class Executing {
  said = ''
  starts = 0
  readonly #start: () => ChildProcess
  readonly #again: boolean
  #child: ChildProcess | undefined
  #isOver = false

  constructor(start: () => ChildProcess, again: boolean) {
    this.#start = start
    this.#again = again
  }

  start(): void {
    this.starts += 1
    const child = this.#start()
    this.#child = child
    child.stdout?.on('data', (text: Buffer) => void (this.said += text.toString()))
    child.stderr?.on('data', (text: Buffer) => void (this.said += text.toString()))
    child.once('exit', () => {
      if (this.#again && !this.#isOver) this.start()
    })
  }

  /** It has gone, and so by itself. */
  get isOver(): boolean {
    return this.#child?.exitCode === 0
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  async stop(): Promise<void> {
    this.#isOver = true
    const child = this.#child
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await new Promise((resolve) => child.once('exit', resolve))
  }
}

export async function executorRig(scope: ServiceScope, options: ExecutorRigOptions = {}): Promise<ExecutorRig> {
  const [folder, root, control] = [scope.folder(), scope.folder(), scope.folder()]
  const at = (name: string): string => join(folder, name)
  const [socket, stateDir, configFile] = [at('executor.sock'), at('executor'), at('config.yaml')]
  const systemctl = fakeSystemctl(control, ['app.service'])
  const configure = (patches: object): void => {
    const trusted = { ed25519: publicTextOf(OPERATOR), kinds: ['files'], sites: 'all' }
    const all = { trustedKeys: { ops: trusted }, roots: { app: root }, units: ['app.service'], hookUser: 'root', ...patches }
    const gateway = { id: 'gw-1', fleet: 'acme', dataDir: at('state') }
    writeFileSync(configFile, JSON.stringify({ gateway, buffer: { minFreeBytes: '4MiB' }, patches: all }))
    chmodSync(configFile, 0o644)
  }
  mkdirSync(at('state'))
  configure(options.patches ?? {})
  const life = JSON.stringify({ configPath: configFile, stateDir, socket, systemctl: systemctl.path, idleMs: options.idleMs })
  const args = options.program === undefined ? [CHILD, life] : [options.program, 'execute', '--config', configFile, '--socket', socket]
  const env = { ...process.env, STATE_DIRECTORY: stateDir, SYSTEMCTL: systemctl.path, ...options.env }
  const program = new Executing(() => spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'pipe'] }), options.again ?? false)
  scope.atEnd(() => program.stop())
  program.start()
  const downloads = new HttpDownloads({ clock: new SystemClock(), random: systemRandom, attempts: 2, backoffMs: 1 })
  scope.atEnd(() => downloads.stop())
  const units = new SystemdUnits({ systemctl: systemctl.path, limitMs: 5_000 })
  const local = new FilesKind({ roots: {}, allowedUnits: [], units, reserveBytes: 0, downloads, hooks: new Hooks(200) })
  const remote = new RemoteFiles({
    ...{ socketPath: socket, downloads, folder: at('incoming'), reserveBytes: 0, clock: new SystemClock() },
    limitMs: (step, files) => local.limitMs(step, files as unknown as FilesPlan),
  })
  await until('the executor listens', () => isListening(socket), 20_000)
  return { kind: signing(remote), remote, root, control, socket, stateDir, configFile, calls: systemctl.calls, program, configure }
}

/** Bound, and listening as well: `__SO_ACCEPTCON` in its flags (proc_net(5)). */
function isListening(socket: string): boolean {
  return readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .some((line) => line.endsWith(socket) && line.includes(' 00010000 '))
}

/** Signs what it is given, and shows the executor's plan as one of FilesKind. */
export function signing(remote: RemoteFiles): FilesRig {
  const of = (plan: FilesPlan): RemotePlan => (plan as unknown as { readonly remote: RemotePlan }).remote
  return {
    async prepare(accepted, signal) {
      const plan = await remote.prepare(accepted.envelope.length > 0 ? accepted : signedOnce(accepted), signal)
      return { ...(plan.files as unknown as FilesPlan), remote: plan } as unknown as FilesPlan
    },
    fetch: (plan, signal) => remote.fetch(of(plan), signal),
    build: (plan, signal) => remote.build(of(plan), signal),
    pre: (plan, signal) => remote.pre(of(plan), signal),
    flip: (plan) => remote.flip(of(plan)),
    isFlipped: (plan) => remote.isFlipped(of(plan)),
    activate: (plan, signal) => remote.activate(of(plan), signal),
    verify: (plan, signal) => remote.verify(of(plan), signal),
    commit: (plan) => remote.commit(of(plan)),
    unflip: (plan) => remote.unflip(of(plan)),
    reactivate: (plan, signal) => remote.reactivate(of(plan), signal),
    discard: (plan) => remote.discard(of(plan)),
    limitMs: (step, plan) => remote.limitMs(step, of(plan)),
  }
}

const signed = new WeakMap<object, Accepted<FilesPatch>>()

function signedOnce(accepted: Accepted<FilesPatch>): Accepted<FilesPatch> {
  const known = signed.get(accepted) ?? signedFiles(accepted)
  signed.set(accepted, known)
  return known
}
