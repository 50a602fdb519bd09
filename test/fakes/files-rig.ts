/** A FilesKind over real files, a real HTTP server and a script in the place of systemctl. */
import { createHash } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import tar from 'tar-stream'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import { Hooks } from '../../adapters/host/hooks.ts'
import { FilesKind } from '../../adapters/host/releases/files-kind.ts'
import type { FilesPlan } from '../../adapters/host/releases/plan.ts'
import { SystemdUnits } from '../../adapters/host/units.ts'
import { HttpDownloads } from '../../adapters/http/download.ts'
import type { FilesPatch, FilesSpec } from '../../daemon/patch/document.ts'
import type { Accepted, Kind } from '../../daemon/patch/kinds.ts'
import type { ServiceScope } from '../services/index.ts'
import { honest, lyingServer } from './lying-server.ts'

/** Keeps one file for each unit: its state and invocation; each call is a line of `calls`. */
const SYSTEMCTL = `#!/bin/sh
shift 2
verb=$1; for last; do :; done
dir=$(dirname "$0")
echo "$verb $last" >> "$dir/calls"
[ -e "$dir/deny-$verb" ] && { echo "Access denied"; exit 4; }
case $verb in
stop) sed -i s/^active/inactive/ "$dir/$last" ;;
start) [ -e "$dir/deaf" ] || echo "active $(cat /proc/sys/kernel/random/uuid)" > "$dir/$last" ;;
show) [ -e "$dir/$last" ] || { echo LoadState=not-found; exit 0; }
  read -r state id < "$dir/$last"
  echo LoadState=loaded; echo "ActiveState=$state"; echo "InvocationID=$id" ;;
esac
exit 0
`

export function fakeSystemctl(
  folder: string,
  units: readonly string[],
): { readonly path: string; readonly calls: () => readonly string[] } {
  mkdirSync(folder, { recursive: true })
  const path = join(folder, 'systemctl')
  writeFileSync(path, SYSTEMCTL)
  chmodSync(path, 0o755)
  for (const unit of units) writeFileSync(join(folder, unit), 'active first\n')
  const calls = join(folder, 'calls')
  return { path, calls: () => (existsSync(calls) ? readFileSync(calls, 'utf8').trim().split('\n') : []) }
}

export interface FilesRigOptions {
  readonly root: string
  readonly systemctl: string
  readonly reserveBytes?: number
}

export function filesKind(options: FilesRigOptions): { readonly kind: FilesKind; readonly stop: () => Promise<void> } {
  const downloads = new HttpDownloads({ clock: new SystemClock(), random: systemRandom, attempts: 2, backoffMs: 1 })
  const kind = new FilesKind({
    roots: { app: options.root },
    allowedUnits: ['app.service'],
    units: new SystemdUnits({ systemctl: options.systemctl, limitMs: 5_000 }),
    reserveBytes: options.reserveBytes ?? 0,
    downloads,
    hooks: new Hooks(200),
  })
  return { kind, stop: () => downloads.stop() }
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

export function filesPatch(id: string, spec: Partial<FilesSpec>): Accepted<FilesPatch> {
  const whole: FilesSpec = {
    root: 'app',
    version: id,
    artifacts: [],
    owner: undefined,
    hooks: {},
    units: [],
    running: undefined,
    keep: 2,
    localEdits: 'hold',
    ...spec,
  }
  const patch = { id, kind: 'files', spec: whole } as FilesPatch
  return { patch, digest: sha256(Buffer.from(id)), payload: new Uint8Array(), envelope: new Uint8Array() }
}

export function artifact(url: string, bytes: Buffer, more: Partial<FilesSpec['artifacts'][number]> = {}): FilesSpec['artifacts'][number] {
  return { url, sha256: sha256(bytes), bytes: bytes.length, unpack: 'tar', path: '.', mode: undefined, ...more }
}

/** A name that ends with `/` is a folder; one whose text begins with `#!` may be executed. */
export async function tarOf(files: Readonly<Record<string, string>>, headers: readonly tar.Headers[] = []): Promise<Buffer> {
  const pack = tar.pack()
  for (const [name, text] of Object.entries(files)) {
    if (name.endsWith('/')) pack.entry({ name, type: 'directory' })
    else pack.entry({ name, mode: text.startsWith('#!') ? 0o755 : 0o644 }, text)
  }
  for (const header of headers) pack.entry(header, '')
  pack.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of pack) chunks.push(chunk)
  return Buffer.concat(chunks)
}

const never = new AbortController().signal

/** In this program, or through the executor. */
export type FilesSteps = Kind<FilesPatch, FilesPlan>

/** Up to and with `last`. */
export async function forward(kind: FilesSteps, accepted: Accepted<FilesPatch>, last: string = 'commit'): Promise<FilesPlan> {
  const plan = await kind.prepare(accepted, never)
  const steps = {
    prepare: () => undefined,
    fetch: () => kind.fetch(plan, never),
    build: () => kind.build(plan, never),
    pre: () => kind.pre(plan, never),
    flip: () => kind.flip(plan),
    activate: () => kind.activate(plan, never),
    verify: () => kind.verify(plan, never),
    commit: () => kind.commit(plan),
  }
  for (const [name, step] of Object.entries(steps)) {
    await step()
    if (name === last) break
  }
  return plan
}

/** What the runner does on the way back. */
export async function back(kind: FilesSteps, plan: FilesPlan): Promise<void> {
  if (await kind.isFlipped(plan)) {
    await kind.unflip(plan)
    await kind.reactivate(plan, never)
  }
  await kind.discard(plan)
}

/** The kind over a root of its own, and a server for its artifacts. */
export interface ServedRig {
  readonly kind: FilesSteps
  readonly root: string
  readonly control: string
  readonly calls: () => readonly string[]
  readonly offer: (bytes: Buffer, more?: Partial<FilesSpec['artifacts'][number]>) => FilesSpec['artifacts'][number]
}

export async function servedRig(scope: ServiceScope, reserveBytes = 0): Promise<ServedRig> {
  const [root, control] = [scope.folder(), scope.folder()]
  const systemctl = fakeSystemctl(control, ['app.service'])
  const { kind, stop } = filesKind({ root, systemctl: systemctl.path, reserveBytes })
  scope.atEnd(stop)
  return { kind, root, control, calls: systemctl.calls, offer: await offering(scope) }
}

/** A server for artifacts. */
export async function offering(scope: ServiceScope): Promise<ServedRig['offer']> {
  const files = new Map<string, Buffer>()
  const server = await lyingServer((request, response, count) =>
    honest(files.get(request.url ?? '') ?? Buffer.alloc(0))(request, response, count),
  )
  scope.atEnd(() => server.stop())
  return (bytes, more) => {
    const path = `/${files.size}`
    files.set(path, bytes)
    return artifact(`${server.url}${path}`, bytes, more)
  }
}
