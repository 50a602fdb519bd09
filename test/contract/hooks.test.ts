/** Commands of a patch, as real programs. */
import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { Hooks, type HookCall } from '../../adapters/host/hooks.ts'
import { serviceScope } from '../services/index.ts'

const scope = serviceScope()
const never = new AbortController().signal
const hooks = new Hooks(200)

interface Rig {
  readonly root: string
  readonly folder: string
  readonly run: (command: readonly string[], more?: Partial<HookCall>, signal?: AbortSignal) => Promise<string>
  /** Writes a script of the release; its name. */
  readonly script: (text: string) => string
}

function rig(): Rig {
  const root = scope.folder()
  const folder = join(root, 'releases/one')
  mkdirSync(folder, { recursive: true })
  const call = { timeoutMs: 20_000, folder, root, environment: { EDGE_RELEASE: folder, EDGE_ROOT: root } }
  return {
    root,
    folder,
    run: (command, more, signal = never) => hooks.run({ ...call, command, ...more }, signal),
    script: (text) => {
      writeFileSync(join(folder, 'hook'), `#!/bin/sh\n${text}\n`)
      chmodSync(join(folder, 'hook'), 0o755)
      return 'hook'
    },
  }
}

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

async function written(path: string): Promise<number> {
  while (!existsSync(path) || readFileSync(path, 'utf8').trim() === '') await pause(10)
  return Number(readFileSync(path, 'utf8'))
}

async function gone(pid: number): Promise<void> {
  while (isAlive(pid)) await pause(10)
}

test('a command gets a clean environment, the release as its folder, and nothing on stdin', async () => {
  const { run, root, folder } = rig()
  const lines = (await run(['/usr/bin/env'])).trim().split('\n').sort()
  const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
  assert.deepEqual(lines, [`EDGE_RELEASE=${folder}`, `EDGE_ROOT=${root}`, 'LANG=C.UTF-8', path])
  assert.equal((await run(['/usr/bin/wc', '-c'])).trim(), '0')
  assert.equal((await run(['/bin/pwd'])).trim(), folder)
})

test('a command that does not end in time is ended, also when it does not want to', async () => {
  const { run, script, folder } = rig()
  await assert.rejects(run(['/bin/sleep', '600'], { timeoutMs: 100 }), {
    kind: 'rejected',
    message: '/bin/sleep 600 did not end within 100 ms',
  })
  const stubborn = script(`trap '' TERM; echo $$ > ${folder}/pid; echo waiting >&2; while :; do sleep 1; done`)
  const running = run([stubborn], { timeoutMs: 1_000 })
  await assert.rejects(running, { kind: 'rejected', message: /did not end within 1000 ms; it said: waiting/ })
  await gone(await written(join(folder, 'pid')))
})

test('an abort ends it and all that it started', async () => {
  const { run, script, folder } = rig()
  const stop = new AbortController()
  const running = run([script(`sleep 600 & echo $! > ${folder}/pid; wait`)], {}, stop.signal)
  const pid = await written(join(folder, 'pid'))
  stop.abort()
  await assert.rejects(running, { kind: 'transient', message: /cancelled/ })
  await gone(pid)
  await assert.rejects(run(['/bin/true'], {}, AbortSignal.abort()))
})

test('of what it says the end is kept, and told when it fails', async () => {
  const { run, script } = rig()
  const loud = await run([script('head -c 3000000 /dev/zero | tr "\\\\0" x; echo; echo the end')])
  assert.ok(loud.length <= 8_192 && loud.endsWith('x\nthe end\n'), `${loud.length}`)
  await assert.rejects(run([script('for i in 1 2 3 4 5 6 7; do echo line $i; done; exit 7')]), {
    kind: 'rejected',
    message: 'hook ended with exit code 7; it said: line 3\nline 4\nline 5\nline 6\nline 7',
  })
  await assert.rejects(run([script('kill -SEGV $$')]), { kind: 'rejected', message: /was ended by SIGSEGV/ })
})

test('what left its group by setsid and a second fork ends with it, and does not hold it up by the pipe', async () => {
  const { run, script, folder } = rig()
  await run([script(`(setsid sh -c 'echo $$ > ${folder}/pid; sleep 600; :' &) ; while [ ! -s ${folder}/pid ]; do sleep 0.01; done`)])
  await gone(await written(join(folder, 'pid')))
})

test('what a killed gateway left running ends before the next command', async () => {
  const { run, folder } = rig()
  const { spawn } = await import('node:child_process')
  const left = spawn('/bin/sleep', ['600'], { env: { EDGE_RELEASE: folder }, stdio: 'ignore', detached: true })
  const other = spawn('/bin/sleep', ['600'], { env: { EDGE_RELEASE: `${folder}-2` }, stdio: 'ignore', detached: true })
  try {
    await run(['/bin/true'])
    await gone(left.pid ?? 0)
    assert.equal(isAlive(other.pid ?? 0), true)
  } finally {
    other.kill('SIGKILL')
    left.kill('SIGKILL')
  }
})

test('a command outside of the release and the system folders is refused, also through a link', async () => {
  const { run, root, folder } = rig()
  const outside = join(scope.folder(), 'evil')
  writeFileSync(outside, '#!/bin/sh\n')
  chmodSync(outside, 0o755)
  symlinkSync(outside, join(folder, 'link'))
  symlinkSync('/bin', join(folder, 'folder'))
  symlinkSync(outside, join(root, 'link'))
  const words = [
    outside,
    'link',
    'folder/sh',
    `${root}/link`,
    `../../../../../../${outside}`,
    '../../link',
    `/usr/bin/../..${outside}`,
    '/',
    '.',
    '',
  ]
  for (const word of words) await assert.rejects(run([word]), { kind: 'rejected', message: /is outside of the release/ }, word)
  await assert.rejects(run(['absent']), { kind: 'rejected', message: /is not there/ })
  writeFileSync(join(folder, 'plain'), 'no program')
  await assert.rejects(run(['plain']), { kind: 'rejected', message: /could not be started.*EACCES/ })
})
