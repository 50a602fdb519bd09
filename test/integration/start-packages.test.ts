import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

const PROGRAM = fileURLToPath(new URL('../../daemon/edge-gateway.js', import.meta.url))
/** What only patches need: some 15 MiB of the daemon's memory. */
const OF_PATCHES = ['@grpc/grpc-js', 'croner', 'etcd3', 'protobufjs', 'tar-stream', 'undici']

/** Loaded before the daemon: names each package in the log when a module of it is loaded for the first time. */
const PROBE = `
import { writeSync } from 'node:fs'
import { registerHooks } from 'node:module'
const seen = new Set()
registerHooks({
  load(url, context, next) {
    const name = /node_modules\\/((?:@[^/]+\\/)?[^/]+)\\/(?!.*node_modules\\/)/.exec(url)?.[1]
    if (name !== undefined && !seen.has(name)) writeSync(1, JSON.stringify({ loaded: name }) + '\\n')
    seen.add(name)
    return next(url, context)
  },
})
`

describe('the packages that a start loads', () => {
  const dir = mkdtempSync(join(tmpdir(), 'edge-gateway-'))
  after(() => rmSync(dir, { recursive: true, force: true }))
  writeFileSync(join(dir, 'probe.mjs'), PROBE)

  it('are without etcd none of those that only patches need', async () => {
    const loaded = await loadedWith('', join(dir, 'without'), 'accepts deliveries')
    assert.ok(loaded.has('aedes'), 'the probe sees nothing')
    assert.deepEqual(
      OF_PATCHES.filter((name) => loaded.has(name)),
      [],
    )
  })

  it('are with etcd these as well', async () => {
    const loaded = await loadedWith('etcd: { endpoints: ["http://127.0.0.1:1"] }\n', join(dir, 'with'), '"loaded":"@grpc/grpc-js"')
    assert.ok(loaded.has('croner') && loaded.has('etcd3'))
  })

  /** Runs the daemon until one of its lines has `word`. */
  async function loadedWith(more: string, home: string, word: string): Promise<ReadonlySet<string>> {
    const listen = 'mqtt: { listen: { lan: { url: "mqtt://127.0.0.1:0" } } }\nmetrics: { listen: off }\n'
    const config = `${home}.yaml`
    writeFileSync(config, `gateway: { id: gw-1, dataDir: ${home} }\ncontrol: { socket: ${home}.sock }\n${listen}${more}`)
    const args = ['--import', join(dir, 'probe.mjs'), PROGRAM, 'run', '--config', config]
    const daemon = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'ignore'] })
    const exit = new Promise((resolve) => daemon.once('exit', resolve))
    const loaded = new Set<string>()
    let rest = ''
    try {
      for await (const chunk of daemon.stdout.setEncoding('utf8')) {
        const lines = (rest + String(chunk)).split('\n')
        rest = lines.pop() ?? ''
        for (const line of lines) {
          if (line.startsWith('{"loaded"')) loaded.add((JSON.parse(line) as { loaded: string }).loaded)
          if (line.includes(word)) return loaded
        }
      }
      throw new Error(`the daemon ended after it loaded ${[...loaded].join(', ')}: ${rest}`)
    } finally {
      daemon.kill('SIGKILL')
      await exit
    }
  }
})
