/** What the executor refuses, whoever asks: only what an operator signed for this box, of roots and units that root named. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import type { FilesPatch, FilesSpec } from '../../daemon/patch/document.ts'
import type { Accepted } from '../../daemon/patch/kinds.ts'
import { executorRig, signedFiles, type ExecutorRig } from '../fakes/executor-rig.ts'
import { filesPatch, forward, offering, tarOf } from '../fakes/files-rig.ts'
import { until } from '../fleet/box.ts'
import { serviceScope } from '../services/index.ts'

const scope = serviceScope()
const never = new AbortController().signal
const NOBODY = 65_534
const offer = await offering(scope)
const app = (version: string): Promise<Buffer> => tarOf({ 'bin/app': `#!/bin/sh\nid -un\n`, 'share/a.txt': version })

async function signed(
  id: string,
  spec: Partial<FilesSpec> = {},
  changes: object = {},
  key?: Parameters<typeof signedFiles>[2],
): Promise<Accepted<FilesPatch>> {
  return signedFiles(filesPatch(id, { artifacts: [offer(await app(id))], ...spec }), changes, key)
}

interface Answer {
  readonly error?: string
  readonly kind?: string
  readonly remedy?: string
  readonly is?: boolean
}

/** What a daemon that was taken over may send. */
function ask(rig: ExecutorRig, path: string, body: Uint8Array = new Uint8Array(), method = 'POST', signal = never): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: rig.socket, path, method, agent: false, signal }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => void (text += chunk))
      response.on('end', () => resolve(JSON.parse(text) as Answer)).on('error', reject)
    })
    asked.on('error', reject)
    asked.end(body)
  })
}

const refused = async (rig: ExecutorRig, accepted: Accepted<FilesPatch>, why: RegExp): Promise<void> =>
  assert.rejects(
    rig.kind.prepare(accepted, never),
    (error: Error) => why.test(error.message) || assert.fail(`${error.message} is not ${why}`),
  )

test('nothing is prepared that no trusted operator signed for this box', async () => {
  const rig = await executorRig(scope)
  const good = await signed('p')
  const stranger = generateKeyPairSync('ed25519').privateKey
  const cases: readonly (readonly [Accepted<FilesPatch>, RegExp])[] = [
    [{ ...good, envelope: Buffer.from(good.payload) }, /no signed envelope|payloadType/],
    [
      {
        ...good,
        envelope: Buffer.from(
          Buffer.from(good.envelope)
            .toString()
            .replace(/"payload":"..../, '"payload":"AAAA'),
        ),
      },
      /no signature fits/,
    ],
    [{ ...good, envelope: Buffer.from('\u0000garbage') }, /no signed envelope/],
    [{ ...good, envelope: Buffer.alloc(700_000, 32) }, /at most|did not answer/],
    [await signed('p', {}, {}, stranger), /none of these keys/],
    [await signed('p', {}, { fleet: 'other' }), /for the fleet other, and this box belongs to acme/],
    [await signed('p', {}, { target: { gateways: ['gw-2'] } }), /names other boxes/],
    [await signed('p', {}, { target: { sites: ['plant-7'] } }), /has no site/],
    [await signed('p', {}, { kind: 'config', spec: { log: { level: 'info' } } }), /may sign files, not config|of kind config/],
    [await signed('p', { root: 'etc' }), /no root "etc"/],
    [await signed('p', { units: ['ssh.service'] }), /may not restart ssh.service/],
    [await signed('p', { artifacts: [offer(await app('x'), { path: '../../etc' })] }), /leads out/],
    [await signed('p', {}, { notBefore: '2035-01-01T00:00:00Z' }), /begins on 2035/],
  ]
  for (const [accepted, why] of cases) await refused(rig, accepted, why)
  assert.deepEqual(readdirSync(rig.root), [])
  assert.equal(
    rig.calls().some((call) => !call.startsWith('show')),
    false,
  )
})

test('requests that no daemon sends are refused, and the next one is served', async () => {
  const rig = await executorRig(scope)
  const good = await signed('p')
  await rig.kind.prepare(good, never)
  const of = (rest: string): string => `/${good.digest}/${rest}`
  const paths: readonly (readonly [string, RegExp])[] = [
    ['/', /nothing there/],
    [`/${'0'.repeat(64)}/steps/flip`, /does not know the patch/],
    ['/../../etc/passwd', /nothing there/],
    [of('steps/flip'), /comes after pre|is prepared/],
    [of('steps/pre'), /comes after build|is prepared/],
    [of('steps/activate'), /comes after flip|is prepared/],
    [of('steps/constructor'), /no such step/],
    [of('steps/flip?end=x'), /no number/],
    [of('artifacts/../../x'), /nothing there/],
  ]
  for (const [path, why] of paths) assert.match((await ask(rig, path)).error ?? '', why, path)
  assert.match((await ask(rig, of('steps/discard'), undefined, 'GET')).error ?? '', /nothing there/)
  await new Promise((resolve) => connect(rig.socket).on('close', resolve).on('error', resolve).end('\u0000\u0001 garbage\r\n\r\n').resume())
  const [artifact] = good.patch.spec.artifacts
  assert.ok(artifact !== undefined)
  assert.equal((await ask(rig, of('missing'))).error, undefined)
  const bring = (bytes: Buffer): Promise<Answer> => ask(rig, of(`artifacts/${artifact.sha256}`), bytes)
  assert.match((await bring(Buffer.alloc(artifact.bytes))).error ?? '', /has the sha256/)
  assert.match((await bring(Buffer.alloc(artifact.bytes + 1))).error ?? '', /more than the/)
  assert.match((await bring(Buffer.alloc(3))).error ?? '', /3 of .* bytes/)
  assert.match((await ask(rig, of(`artifacts/${'a'.repeat(64)}`))).error ?? '', /no artifact/)
  assert.deepEqual(readdirSync(join(rig.root, '.incoming')), [])
  assert.match((await ask(rig, of('steps/build'))).error ?? '', /not there yet/)
  await forward(rig.kind, good)
  assert.equal(readFileSync(join(rig.root, 'current/share/a.txt'), 'utf8'), 'p')
})

test('an effect is not begun after its time, and is cut off at its end', async () => {
  const rig = await executorRig(scope)
  const slow = await signed('p', { hooks: { pre: { command: ['/bin/sleep', '30'], timeoutMs: 60_000 } } })
  await forward(rig.kind, slow, 'build')
  const bootMs = Number(readFileSync('/proc/uptime', 'utf8').split(' ', 1)[0]) * 1_000
  const late = await ask(rig, `/${slow.digest}/steps/pre?end=${bootMs - 1_000}`)
  assert.match(late.error ?? '', /after the end of its time/)
  assert.equal(late.kind, 'transient')
  assert.match((await ask(rig, `/${slow.digest}/steps/pre?end=${bootMs + 3_000}`)).error ?? '', /cancelled/)
  // Who asks and goes away takes its step along.
  const gone = new AbortController()
  const plan = { executor: true, digest: slow.digest, files: {} } as const
  const begun = rig.calls().length
  const asked = ask(rig, `/${slow.digest}/steps/pre`, undefined, 'POST', gone.signal).catch(() => undefined)
  await until('the hook runs', () => sleepers(rig.root) > 0, 20_000)
  gone.abort()
  await asked
  assert.equal(await rig.remote.isFlipped(plan), false)
  assert.deepEqual([sleepers(rig.root), rig.calls().length], [0, begun])
})

/** Programs that a hook of the root started. */
function sleepers(root: string): number {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  const of = (pid: string): string => {
    try {
      return readFileSync(`/proc/${pid}/environ`, 'utf8')
    } catch {
      return '' // it has ended
    }
  }
  return pids.filter((pid) => of(pid).includes(`EDGE_ROOT=${root}\0`)).length
}

test('no way leads below the floor that it keeps itself, also after a restart of it', async () => {
  const rig = await executorRig(scope)
  const [old, older] = [await signed('p1'), await signed('p2')]
  const next = await signed('p3')
  await forward(rig.kind, old)
  await rig.kind.prepare(older, never) // prepared before, begun after
  await forward(rig.kind, next)
  await refused(rig, older, /goes to no older patch/)
  for (const step of ['missing', 'steps/build', 'steps/flip'])
    assert.notEqual((await ask(rig, `/${old.digest}/${step}`)).error, undefined, step)
  const pid = rig.program.pid
  process.kill(pid, 'SIGKILL')
  rig.program.start()
  await until('it listens again', () => rig.remote.isFlipped({ executor: true, digest: next.digest, files: {} }), 20_000)
  await refused(rig, older, /goes to no older patch/)
  assert.equal(readFileSync(join(rig.root, 'current/share/a.txt'), 'utf8'), 'p3')
})

test('the configuration counts as it is now, and only while root alone can change it', async () => {
  const rig = await executorRig(scope)
  const patch = await signed('p', { units: ['app.service'] })
  const plan = await forward(rig.kind, patch, 'build')
  rig.configure({ units: [] })
  await assert.rejects(rig.kind.pre(plan, never), { message: /app.service is none of patches.units any more/ })
  rig.configure({ trustedKeys: {} })
  await assert.rejects(rig.kind.pre(plan, never), { message: /patches.trustedKeys has none of these keys/ })
  chownSync(rig.configFile, NOBODY, NOBODY)
  await assert.rejects(rig.kind.pre(plan, never), {
    kind: 'saturated',
    message: /can be changed by others than root/,
    remedy: /chown root/,
  })
  chownSync(rig.configFile, 0, 0)
  writeFileSync(rig.configFile, 'gateway: [')
  await assert.rejects(rig.kind.pre(plan, never), {
    kind: 'saturated',
    message: /can't use the configuration/,
    remedy: /edge-gateway check/,
  })
  rig.configure({})
  await rig.kind.discard(plan)
  assert.deepEqual(readdirSync(rig.root), [])
})

test('hooks run as the owner of the root or of the patch, and as root only where that is written', async () => {
  const rig = await executorRig(scope, { patches: { hookUser: undefined } })
  chmodSync(rig.root, 0o755)
  const hooks = { post: { command: ['/bin/sh', '-c', 'id -un > "$EDGE_RELEASE/who"; ls /proc/self/fd | wc -l'], timeoutMs: 5_000 } }
  await refused(rig, await signed('p1', { hooks }), /would run as root/)
  const owned = await forward(rig.kind, await signed('p2', { hooks, owner: { user: 'nobody', group: 'nogroup' } }))
  assert.equal(readFileSync(join(rig.root, 'current/who'), 'utf8'), 'nobody\n')
  assert.equal(lstatSync(join(rig.root, 'releases', owned.release, 'bin/app')).uid, NOBODY)
  const other = await executorRig(scope, { patches: { hookUser: undefined } })
  chownSync(other.root, NOBODY, NOBODY)
  await forward(other.kind, await signed('p3', { hooks }))
  assert.deepEqual(
    [readFileSync(join(other.root, 'current/who'), 'utf8'), lstatSync(join(other.root, 'current')).uid],
    ['nobody\n', NOBODY],
  )
  await refused(other, await signed('p4', { hooks, owner: { user: 'root', group: 'root' } }), /may not give files to root/)
})

test('a root that others can exchange is refused; links that its owner lays lead to nothing that is not its own', async () => {
  const rig = await executorRig(scope)
  chmodSync(rig.root, 0o777)
  await refused(rig, await signed('p1'), /others can change/)
  chmodSync(rig.root, 0o755)
  chownSync(rig.root, NOBODY, NOBODY)
  const prey = scope.folder()
  writeFileSync(join(prey, 'keep'), 'keep')
  chmodSync(prey, 0o755)
  symlinkSync(prey, join(rig.root, 'releases'))
  await assert.rejects(forward(rig.kind, await signed('p2')), { kind: 'rejected', message: /can't be laid out.*symbolic links/ })
  assert.deepEqual(readdirSync(prey), ['keep'])
  const daemons = await executorRig(scope)
  chownSync(join(daemons.socket, '..', 'state'), NOBODY, NOBODY)
  chownSync(daemons.root, NOBODY, NOBODY)
  await refused(daemons, await signed('p3'), /belongs to the gateway's own user/)
})

test("a release's owner can't lead its removal astray", async () => {
  const rig = await executorRig(scope)
  chmodSync(rig.root, 0o755)
  const owner = { user: 'nobody', group: 'nogroup' }
  const plan = await forward(rig.kind, await signed('p1', { owner }), 'build')
  const prey = scope.folder()
  writeFileSync(join(prey, 'keep'), 'keep')
  const release = join(rig.root, 'releases', plan.release)
  execFileSync('/bin/sh', ['-c', `cd ${release} && mv share old && ln -s ${prey} share`], { uid: NOBODY, gid: NOBODY })
  mkdirSync(join(release, 'deep/er'), { recursive: true })
  await rig.kind.discard(plan)
  assert.equal(existsSync(release), false)
  assert.deepEqual(readdirSync(prey), ['keep'])
})

test('who speaks is decided by the socket: another user gets no answer, and says why', async () => {
  const rig = await executorRig(scope)
  const ask = `require('net').connect('${rig.socket}').on('error', (e) => console.log(e.code)).on('connect', () => { console.log('in'); process.exit() })`
  const as = (uid: number): string =>
    execFileSync('/usr/bin/setpriv', [`--reuid=${uid}`, '--clear-groups', process.execPath, '-e', ask])
      .toString()
      .trim()
  chmodSync(join(rig.socket, '..'), 0o755)
  assert.equal(as(NOBODY), 'EACCES')
  chownSync(rig.socket, NOBODY, 0)
  assert.equal(as(NOBODY), 'in')
})

test('an executor that is not there is a wait with a remedy', async () => {
  const rig = await executorRig(scope)
  await rig.program.stop()
  const error = { kind: 'transient', message: /no executor answers at/, remedy: /systemctl status edge-gateway-executor/ }
  await assert.rejects(rig.kind.prepare(await signed('p'), never), error)
})

test('it ends by itself when nobody asks, and not while somebody does', async () => {
  const rig = await executorRig(scope, { idleMs: 800 })
  const hooks = { pre: { command: ['/bin/sleep', '1'], timeoutMs: 5_000 } }
  await forward(rig.kind, await signed('p', { hooks }), 'pre')
  assert.equal(rig.program.isOver, false)
  await until('it has gone', () => rig.program.isOver, 20_000)
})
