import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

const PROGRAM = fileURLToPath(new URL('../../daemon/edge-gateway.js', import.meta.url))
const COMPILE = fileURLToPath(new URL('../../daemon/compile.js', import.meta.url))

/** Loaded before the daemon in each of its threads: makes garbage that lives for a while, then says what it sees. */
const PROBE = `
import { isMainThread } from 'node:worker_threads'
import v8 from 'node:v8'
const kept = []
let made = 0
const timer = setInterval(() => {
  for (let count = 0; count < 100_000; count += 1) kept[made++ % 100_000] = { at: made, text: [made] }
  if (made < 10_000_000) return
  clearInterval(timer)
  const young = v8.getHeapSpaceStatistics().find((space) => space.space_name === 'new_space').space_size
  const compiler = process.moduleLoadList.some((name) => name.includes('amaro'))
  process._rawDebug(JSON.stringify({ thread: isMainThread ? 'main' : 'worker', compiler, youngMiB: young / 2 ** 20 }))
}, 1)
`

interface Seen {
  readonly thread: string
  readonly compiler: boolean
  readonly youngMiB: number
}

describe('a start of the daemon', () => {
  const dir = mkdtempSync(join(tmpdir(), 'edge-gateway-'))
  after(() => rmSync(dir, { recursive: true, force: true }))
  let seen: Seen[] = []

  before(async () => {
    assert.equal(spawnSync(process.execPath, [COMPILE]).status, 0)
    writeFileSync(join(dir, 'probe.mjs'), PROBE)
    writeFileSync(
      join(dir, 'config.yaml'),
      `gateway: { dataDir: ${join(dir, 'state')} }\nmqtt: { listen: { lan: { url: "mqtt://127.0.0.1:0" } } }\nmetrics: { listen: off }\n`,
    )
    seen = await probed(join(dir, 'probe.mjs'), join(dir, 'config.yaml'))
  })

  it('loads no compiler in any thread once the sources are compiled', () => {
    assert.deepEqual(seen.map(({ thread, compiler }) => [thread, compiler]).sort(), [
      ['main', false],
      ['worker', false],
    ])
  })

  it('keeps the young generation of each thread small, whatever is made', () => {
    for (const { thread, youngMiB } of seen) assert.ok(youngMiB <= 32, `${thread}: ${youngMiB} MiB`)
  })
})

/** Runs the daemon until both of its threads have spoken. */
async function probed(probe: string, config: string): Promise<Seen[]> {
  const daemon = spawn(process.execPath, ['--import', probe, PROGRAM, 'run', '--config', config], { stdio: ['ignore', 'ignore', 'pipe'] })
  const exit = new Promise((resolve) => daemon.once('exit', resolve))
  let text = ''
  try {
    for await (const chunk of daemon.stderr.setEncoding('utf8')) {
      text += String(chunk)
      const lines = text.split('\n').filter((line) => line.startsWith('{"thread"'))
      if (lines.length === 2) return lines.map((line) => JSON.parse(line) as Seen)
    }
    throw new Error(`the daemon ended: ${text}`)
  } finally {
    daemon.kill('SIGKILL')
    await exit
  }
}
