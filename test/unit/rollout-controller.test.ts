/** The controller on etcd in memory, with time that the test moves: what it must not do, and what nobody else would. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { it } from 'node:test'
import type { TestContext } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { openBoxKey, verifyRecord } from '../../adapters/signing/box-key.ts'
import { TrustedEnvelopes } from '../../adapters/signing/dsse.ts'
import { publicTextOf } from '../../adapters/signing/keys.ts'
import type { KeyValue } from '../../daemon/patch/ports.ts'
import { keys } from '../../daemon/patch/records.ts'
import type { RolloutState } from '../../daemon/patch/records.ts'
import { RolloutController } from '../../daemon/patch/rollout/controller.ts'
import { readFleet } from '../../daemon/patch/rollout/fleet.ts'
import type { RolloutReader } from '../../daemon/patch/rollout/fleet.ts'
import { trustingReader } from '../../daemon/patch/rollout/reader.ts'
import { FakeClock, FakeRandom } from '../fakes/clock.ts'
import { FakeEtcd } from '../fakes/etcd.ts'
import { digestOf, encode, patchFor, plainReader, plan, result, stateOf } from '../fakes/rollout.ts'
import { PlayedBox } from '../fakes/rollout-fleet.ts'

const MINUTE_MS = 60_000
const all = plan({ stages: [{ size: { fraction: 1 }, bakeMs: 0, minDone: 1 }] })

class Rig {
  readonly clock: FakeClock
  readonly etcd: FakeEtcd
  readonly lines: string[] = []
  readonly #controller: RolloutController

  constructor(t: TestContext, { reader = plainReader, wallTrusted = true }: { reader?: RolloutReader; wallTrusted?: boolean } = {}) {
    this.clock = new FakeClock({ wallTrusted })
    this.etcd = new FakeEtcd(this.clock)
    const say = (_: object, message: string): void => void this.lines.push(message)
    const log = { debug: say, info: say, warn: say, error: say }
    const settings = { owner: { gateway: 'c', life: '1' }, ttlMs: 15_000, busyMs: 5_000, idleMs: 5_000, pauseMs: 50 }
    this.#controller = new RolloutController({ etcd: this.etcd, clock: this.clock, random: new FakeRandom(1) }, settings, reader, log)
    t.after(() => this.#controller.stop(0))
  }

  async start(): Promise<void> {
    await this.#controller.start(new AbortController().signal)
  }

  async pass(ms: number): Promise<void> {
    for (const endMs = this.clock.bootMs() + ms; this.clock.bootMs() < endMs; this.clock.advance(500))
      for (let turns = 0; turns < 25; turns++) await turn()
  }

  async put(key: string, value: unknown): Promise<void> {
    await this.etcd.transact({ compare: [], then: [{ put: key, value: value instanceof Uint8Array ? value : encode(value) }] })
  }

  async remove(key: string): Promise<void> {
    await this.etcd.transact({ compare: [], then: [{ delete: key }] })
  }

  async state(id: string): Promise<RolloutState | undefined> {
    const [entry] = (await this.etcd.list({ prefix: keys.rolloutState(id) })).entries
    return entry && (JSON.parse(Buffer.from(entry.value).toString()) as RolloutState)
  }
}

it('decides nothing while its clock is not to be believed, and says so', async (t) => {
  const rig = new Rig(t, { wallTrusted: false })
  const one = patchFor('one', { rollout: all })
  await new PlayedBox(rig.etcd, 'gw-1', one).register(rig.clock.wallMs())
  await rig.put(keys.spec('one'), one)
  await rig.start()
  await rig.pass(2 * MINUTE_MS)
  assert.equal((await rig.etcd.list({ prefix: keys.rollouts })).count, 0)
  assert.equal(rig.lines.filter((line) => line.includes('set the time')).length, 1)
})

it('takes away what a box left open under a patch that was cleared away, and nothing that is led, or alive', async (t) => {
  const rig = new Rig(t)
  const one = patchFor('one', { rollout: all })
  const [dead, living] = [
    new PlayedBox(rig.etcd, 'gw-1', one),
    new PlayedBox(rig.etcd, 'gw-2', { ...one, rollout: plan({ ...all, concurrency: { scope: 'other', slots: 1 } }) }),
  ]
  for (const box of [dead, living]) await box.register(rig.clock.wallMs())
  await rig.put(keys.spec('one'), one)
  await rig.start()
  await rig.pass(5_000)
  assert.equal((await rig.state('one'))?.phase, 'running')
  for (const box of [dead, living]) assert.equal(await box.begin(), 0)
  await dead.vanish()
  await rig.remove(keys.spec('one'))
  const open = async (): Promise<string[]> =>
    (await rig.etcd.list({ prefix: 'locks/' })).entries.map(({ key }) => key).filter((key) => key.includes('~open/'))
  await rig.pass(10 * MINUTE_MS)
  assert.equal((await open()).length, 2, 'it may still be on its way back')
  await rig.pass(7 * MINUTE_MS)
  // The lease of the other one ended meanwhile too, but had stood in the queue for ten minutes.
  assert.deepEqual(await open(), [keys.openBy('other', 'gw-2')])
  await rig.pass(10 * MINUTE_MS)
  assert.deepEqual(await open(), [])
})

it('lets no other document in through the stages that were opened for the one before it', async (t) => {
  const rig = new Rig(t)
  const one = patchFor('one', { rollout: all })
  const box = new PlayedBox(rig.etcd, 'gw-1', one)
  await box.register(rig.clock.wallMs())
  await rig.put(keys.spec('one'), one)
  await rig.start()
  await rig.pass(5_000)
  const before = await rig.state('one')
  assert.equal(before?.phase, 'running')
  await rig.remove(keys.spec('one'))
  await rig.put(keys.spec('one'), patchFor('one', { rollout: all, sequence: 2 }))
  // Orders that would have it write the state anew.
  await rig.put(keys.control('one'), Buffer.from('paused'))
  await rig.pass(20_000)
  assert.deepEqual(await rig.state('one'), before)
  assert.ok(rig.lines.some((line) => line.includes('push it under another id')))
})

it('a box whose result nobody can believe holds up neither its scope nor the other rollouts', async (t) => {
  const rig = new Rig(t)
  const [one, two] = [patchFor('one', { rollout: all }), patchFor('two', { rollout: all, channel: 'z-later' })]
  const box = new PlayedBox(rig.etcd, 'gw-1', one)
  await box.register(rig.clock.wallMs())
  await rig.put(keys.spec('one'), one)
  await rig.start()
  await rig.pass(5_000)
  assert.equal(await box.begin(), 0)
  await box.vanish()
  await rig.put(keys.result('gw-1', 'one'), Buffer.from('nonsense'))
  await rig.pass(10 * MINUTE_MS)
  assert.equal((await rig.etcd.list({ prefix: keys.open(one.rollout.concurrency.scope) })).count, 0)
  await new PlayedBox(rig.etcd, 'gw-2', two).register(rig.clock.wallMs())
  await rig.put(keys.spec('two'), two)
  await rig.pass(MINUTE_MS)
  assert.equal((await rig.state('two'))?.phase, 'running')
})

it('an id whose first document never began may be used again', async (t) => {
  const rig = new Rig(t)
  await rig.put(keys.rolloutState('one'), stateOf('refused', -1, { digest: 'a'.repeat(64), patch: 'one' }))
  const one = patchFor('one', { rollout: all })
  await new PlayedBox(rig.etcd, 'gw-1', one).register(rig.clock.wallMs())
  await rig.put(keys.spec('one'), one)
  await rig.start()
  await rig.pass(5_000)
  assert.deepEqual([(await rig.state('one'))?.phase, (await rig.state('one'))?.digest], ['running', digestOf(encode(one))])
})

it('believes a result that the box itself has signed, and none that another wrote in its name', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'edge-gateway-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const ops = publicTextOf(generateKeyPairSync('ed25519').privateKey)
  const documents = { read: () => ({ refused: 'not looked at' }) }
  const reader = trustingReader({ envelopes: new TrustedEnvelopes({ ops }), documents, scopes: new Map(), fleet: 'acme', verifyRecord })
  const own = openBoxKey(folder)
  const told = result('gw-1', 'completed', { patch: 'one', digest: createHash('sha256').digest('hex') })
  const seen = (key: string, value: Uint8Array, identity: object | undefined): [boolean, string | undefined] => {
    const entry = (name: string, bytes: Uint8Array): [string, KeyValue] => [
      name,
      { key: name, value: bytes, createRevision: 3, modRevision: 3 },
    ]
    const gateways = new Map([entry(key, value), ...(identity === undefined ? [] : [entry(keys.identity('gw-1'), encode(identity))])])
    const parts = { patches: new Map(), rollouts: new Map(), failures: new Map(), gateways }
    const fleet = readFleet({ clusterId: '1', revision: 9, parts }, reader)
    return [fleet.boxes.get('gw-1')?.results.get('one')?.result !== undefined, fleet.unreadable.get(key)]
  }
  const identity = { schema: 1, gateway: 'gw-1', publicKey: own.publicKey, machine: 'm', at: '' }
  const key = keys.result('gw-1', 'one')
  assert.deepEqual(seen(key, own.signRecord(told), identity), [true, undefined])
  assert.match(seen(key, encode(told), identity)[1] ?? '', /not signed by the box/)
  assert.match(seen(key, own.signRecord(told), { ...identity, publicKey: ops })[1] ?? '', /not signed by the box/)
  assert.match(seen(key, own.signRecord(told), undefined)[1] ?? '', /no identity/)
  assert.match(seen(key, own.signRecord({ ...told, gateway: 'gw-2' }), identity)[1] ?? '', /a result of gw-2/)
  assert.match(seen(key, own.signRecord({ ...told, patch: 'two' }), identity)[1] ?? '', /on two/)
})
