/**
 * The executor is killed before and after each of its steps, as the daemon drives a patch forward and back; systemd starts
 * it again. All moments, which takes some minutes:
 *
 *     EXECUTOR_KILLS=all node --test test/contract/executor-kill.test.ts
 */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { SystemClock, systemRandom } from '../../adapters/host/clock.ts'
import type { FilesPatch } from '../../daemon/patch/document.ts'
import type { Accepted, Kind, Outcome } from '../../daemon/patch/kinds.ts'
import { Runner } from '../../daemon/patch/runner/runner.ts'
import { executorRig, signedFiles, type ExecutorRig } from '../fakes/executor-rig.ts'
import { filesPatch, offering, tarOf } from '../fakes/files-rig.ts'
import { MAY } from '../fakes/files-world.ts'
import { FakeMemory } from '../fakes/patch-memory.ts'
import { silent } from '../fakes/store-rig.ts'
import { patchedProgram } from '../fleet/patched.ts'
import { serviceScope } from '../services/index.ts'

const STRIDE = process.env['EXECUTOR_KILLS'] === 'all' ? 1 : 5
const EXECUTOR = 'daemon/patch/executor/executor.ts'
const STEPS = ['build', 'pre', 'flip', 'activate', 'unflip', 'reactivate', 'discard', 'commit']
const MOMENT = `import { existsSync, readFileSync, writeFileSync, rmSync } from 'node:fs'
export function passMoment() {
  const file = process.env.KILL_FILE
  if (!existsSync(file)) return
  const left = Number(readFileSync(file, 'utf8'))
  if (left > 0) return writeFileSync(file, String(left - 1))
  rmSync(file)
  process.kill(process.pid, 'SIGKILL')
}
`

const scope = serviceScope()
const never = new AbortController().signal
const offer = await offering(scope)
let number = 0

/** Waits of the runner are short. */
class HurriedClock extends SystemClock {
  override after(ms: number, fn: () => void): () => void {
    return super.after(ms / 10, fn)
  }
}

async function mortal(): Promise<{ readonly rig: ExecutorRig; readonly killFile: string }> {
  const dir = join(scope.folder(), 'copy')
  const calls = STEPS.map((name) => {
    const call = `await installation.${name}(plan${['build', 'pre', 'activate', 'reactivate'].includes(name) ? ', signal' : ''})`
    return { file: EXECUTOR, from: `        ${call}\n`, to: `        passMoment()\n        ${call}\n        passMoment()\n` }
  })
  const program = await patchedProgram(dir, [
    {
      file: EXECUTOR,
      from: "import { GatewayError, kindOf } from '../../errors.ts'\n",
      to: "import { GatewayError, kindOf } from '../../errors.ts'\nimport { passMoment } from './moment.js'\n",
    },
    { file: 'adapters/host/units.ts', from: "'/usr/bin/systemctl'", to: "process.env['SYSTEMCTL'] ?? ''" },
    ...calls,
  ])
  writeFileSync(join(dir, 'daemon/patch/executor/moment.js'), MOMENT)
  const killFile = join(dir, 'kill')
  return { rig: await executorRig(scope, { program, env: { KILL_FILE: killFile }, again: true }), killFile }
}

async function version(id: string): Promise<Accepted<FilesPatch>> {
  const hooks = { post: { command: ['bin/app'], timeoutMs: 5_000 } }
  const artifacts = [offer(await tarOf({ 'bin/app': `#!/bin/sh\necho ${id}\n`, id }))]
  const accepted = filesPatch(id, { artifacts, units: ['app.service'], hooks })
  const health = { checks: ['is-good'], consecutive: 1, deadlineMs: 0, bakeMs: 0 }
  const signed = signedFiles(accepted)
  number += 1
  return { ...signed, patch: { ...signed.patch, channel: 'app', sequence: number, health } }
}

/** A fresh life of the daemon's half. */
function runnerOf(rig: ExecutorRig, memory: FakeMemory, isGood: () => boolean): Runner {
  const kind = rig.kind as unknown as Kind
  const checks = { run: (names: readonly string[]) => Promise.resolve(names.map((name) => ({ name, ok: isGood() }))) }
  return new Runner({
    memory,
    clock: new HurriedClock(),
    random: systemRandom,
    log: silent,
    kinds: { files: kind, config: kind, device: kind },
    checks,
  })
}

const inForce = (rig: ExecutorRig): string | undefined =>
  existsSync(join(rig.root, 'current')) ? readFileSync(join(rig.root, 'current/id'), 'utf8') : undefined

for (const way of ['forward', 'back'] as const) {
  test(`the executor is killed at its steps on the way ${way}: one version or the other is in force, and no rest stays`, async (t) => {
    const { rig, killFile } = await mortal()
    const memory = new FakeMemory()
    const alive = setInterval(() => undefined, 1_000) // the clock of the flows does not keep Node alive
    t.after(() => clearInterval(alive))
    const first = await runnerOf(rig, memory, () => true).apply(await version(`${way}-first`), MAY, never)
    assert.equal(first.state, 'completed', first.reason)
    let before = inForce(rig)
    for (let moment = 0, kills = 0; ; moment += STRIDE) {
      const id = `${way}-${moment}`
      const starts = rig.program.starts
      const accepted = await version(id)
      writeFileSync(killFile, String(moment))
      const outcome: Outcome = await runnerOf(rig, memory, () => way === 'forward' || inForce(rig) !== id).apply(accepted, MAY, never)
      const about = `${id}: ${outcome.state} (${outcome.reason ?? ''})`
      assert.ok(['completed', 'interrupted', 'failed'].includes(outcome.state), about)
      assert.equal(outcome.state === 'completed', inForce(rig) === id, about)
      if (outcome.state !== 'completed') assert.equal(inForce(rig), before, about)
      assert.deepEqual([...memory.below('journal/').keys()], [], about)
      const rests = readdirSync(rig.root, { recursive: true, encoding: 'utf8' }).filter((name) => /\.new|\.begun|\.part/.test(name))
      assert.deepEqual(rests, [], about)
      before = inForce(rig)
      if (existsSync(killFile)) {
        rmSync(killFile)
        t.diagnostic(`${kills} kills`)
        assert.ok(kills >= 2)
        return
      }
      kills += 1
      assert.ok(rig.program.starts > starts, about)
    }
  })
}
