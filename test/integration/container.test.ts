/** The two lines of the README that put the package into a container, and what must hold there: no systemd, one volume. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmodSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import mqtt from 'mqtt'
import type { StatusDocument } from '../../daemon/status.ts'
import { until } from '../fleet/box.ts'
import { buildDeb } from '../fleet/installed.ts'
import { debianTree } from '../services/debian-base.ts'
import { freePort, serviceScope, type ServiceScope } from '../services/index.ts'

const run = promisify(execFile)
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const MESSAGES = 200

/** As the README has it, in words; `name`: the program that the line begins with. */
function readmeLine(name: string): string[] {
  const text = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const line = text.split('\n').find((one) => one.startsWith(`${name} `))
  assert.ok(line !== undefined, `the README has no line that begins with ${name}`)
  return line.split(/\s+/)
}

/** Images, containers and volumes of this test alone. */
class Engine {
  readonly #dir: string
  readonly #env: NodeJS.ProcessEnv

  constructor(scope: ServiceScope) {
    this.#dir = scope.folder()
    const file = join(this.#dir, 'containers.conf')
    // Limits above those of the machine that the test runs on would be refused.
    writeFileSync(file, '[containers]\ndefault_ulimits = []\n')
    this.#env = { ...process.env, CONTAINERS_CONF: file, TMPDIR: this.#dir }
    scope.atEnd(async () => {
      await this.podman('rm', '--all', '--force', '--time', '0')
      await this.podman('rmi', '--all', '--force')
      await this.podman('volume', 'rm', '--all', '--force')
      await run('sh', ['-c', `grep -o ' ${this.#dir}[^ ]* ' /proc/mounts | sort -r | xargs -r umount -l`])
    })
  }

  async podman(...args: readonly string[]): Promise<string> {
    // runc also knows machines with both kinds of control groups.
    return this.#run('podman', ['--runtime', 'runc', ...args])
  }

  async buildah(...args: readonly string[]): Promise<string> {
    return this.#run('buildah', args)
  }

  async #run(file: string, args: readonly string[]): Promise<string> {
    const place = ['--root', join(this.#dir, 'root'), '--runroot', join(this.#dir, 'runroot')]
    const options = { cwd: ROOT, env: this.#env, maxBuffer: 64 * 1024 * 1024 }
    return (await run(file, [...place, ...args], options)).stdout
  }
}

async function image(engine: Engine, scope: ServiceScope): Promise<void> {
  const [tree, folder] = await Promise.all([debianTree(), buildDeb(scope)])
  const archive = join(scope.folder(), 'debian.tar')
  await run('tar', ['-C', tree, '-cf', archive, '.'])
  await engine.podman('import', archive, 'localhost/debian:12')
  const deb = join(folder, readdirSync(folder).find((name) => name.endsWith('.deb')) ?? 'none')
  const line = readmeLine('buildah bud').slice(1)
  const words = line.map((word) => (word.startsWith('DEB=') ? 'DEB=edge-gateway.deb' : word))
  assert.equal(words.at(-1), '.')
  // The folder of the build, in place of the checkout.
  const context = scope.folder()
  await run('cp', [deb, join(context, 'edge-gateway.deb')])
  const here = ['--isolation', 'chroot', '--network', 'host', '--build-arg', 'BASE=localhost/debian:12']
  await engine.buildah('bud', ...here, ...words.slice(1, -1), context)
}

async function publish(port: number): Promise<void> {
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 0 })
  const sent = Array.from({ length: MESSAGES }, (_, n) => client.publishAsync('devices/d1/logs/app', `line ${n}`, { qos: 1 }))
  await Promise.all(sent)
  await client.endAsync()
}

test(
  'the package in a container: it starts, keeps what it acknowledged over a stop, and drains in time',
  { timeout: 240_000 },
  async (t) => {
    const scope = serviceScope((release) => t.after(release))
    const engine = new Engine(scope)
    await image(engine, scope)
    const port = await freePort()
    const config = scope.folder()
    chmodSync(config, 0o755)
    const listen = { lan: { url: `mqtt://127.0.0.1:${port}`, auth: 'none' } }
    const settings = { gateway: { id: 'gw-container' }, mqtt: { listen }, metrics: { listen: 'off' }, buffer: { minFreeBytes: '4MiB' } }
    writeFileSync(join(config, 'config.yaml'), JSON.stringify(settings))
    const line = readmeLine('podman run').slice(1)
    await engine.podman(...line.map((word) => word.replace(/^\/etc\/edge-gateway:/, `${config}:`)))
    const name = line[line.indexOf('--name') + 1] ?? ''
    assert.equal(basename(name), name)

    const status = async (): Promise<StatusDocument | undefined> => {
      // Its exit code says that it buffers.
      const { stdout } = await engine.podman('exec', name, 'edgectl', '--json', 'status').then(
        (text) => ({ stdout: text }),
        (error: { stdout?: string }) => ({ stdout: error.stdout ?? '' }),
      )
      return stdout.startsWith('{') ? (JSON.parse(stdout) as StatusDocument) : undefined
    }
    const buffers = async (): Promise<boolean> => (await status())?.verdict.state === 'buffering'
    await until('it accepts', buffers, 60_000)
    await publish(port)
    assert.equal((await status())?.buffer.messages, MESSAGES)
    assert.equal((await status())?.gateway, 'gw-container')

    await engine.podman('stop', '--time', '25', name)
    assert.equal((await engine.podman('inspect', '--format', '{{.State.ExitCode}}', name)).trim(), '0')
    await engine.podman('start', name)
    await until('it accepts again', buffers, 60_000)
    assert.equal((await status())?.buffer.messages, MESSAGES)
  },
)
