/** Queues and open starts as people see them, locks that are broken, and the sentences of `why`. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { whyDocument, type LockWait } from '../../daemon/compose/patch-why.ts'
import { breakAndPause, findEntry, type ScopeUser } from '../../daemon/patch/break.ts'
import { encodeOwner, entryKey } from '../../daemon/patch/lock-entries.ts'
import type { Patch } from '../../daemon/patch/document.ts'
import { readQueues } from '../../daemon/patch/queue.ts'
import { keys } from '../../daemon/patch/records.ts'
import { FakeClock, FakeRandom } from '../fakes/clock.ts'
import { FakeEtcd } from '../fakes/etcd.ts'

const NOW = Date.UTC(2026, 10, 24, 12)
const { signal } = new AbortController()
const tools = () => {
  const clock = new FakeClock({ wallMs: NOW })
  return { etcd: new FakeEtcd(clock), clock, random: new FakeRandom() }
}

async function queued(etcd: FakeEtcd, scope: string, gateway: string): Promise<string> {
  const { id } = await etcd.grantLease(15_000)
  const key = entryKey(scope, id)
  await etcd.transact({ compare: [], then: [{ put: key, value: encodeOwner({ gateway, life: 'l' }), lease: id }] })
  return key
}

async function opened(etcd: FakeEtcd, scope: string, gateway: string, token: number): Promise<void> {
  const marker = { schema: 1, gateway, patch: 'july', token, at: new Date(NOW - 180_000).toISOString() }
  await etcd.transact({ compare: [], then: [{ put: keys.openBy(scope, gateway), value: Buffer.from(JSON.stringify(marker)) }] })
}

function user(id: string, scope: string, change: Partial<ScopeUser> & { readonly slots?: number } = {}): ScopeUser {
  const { slots = 1, ...rest } = change
  const rollout = { concurrency: { scope, slots } } as Patch['rollout']
  return { patch: { id, rollout }, isActive: true, revision: 0, ...rest }
}

describe('the queues of the locks', () => {
  it('have a place, an owner and a lease for each entry; open starts stand apart', async () => {
    const { etcd } = tools()
    for (const [scope, gateway] of [
      ['a', 'gw-1'],
      ['b', 'gw-2'],
      ['a', 'gw-3'],
    ] as const)
      await queued(etcd, scope, gateway)
    await opened(etcd, 'a', 'gw-4', 1)
    await etcd.transact({ compare: [], then: [{ put: 'locks/a/by-hand', value: Buffer.from('x') }] })
    const { entries, open } = await readQueues(etcd)
    assert.deepEqual(
      entries.map(({ scope, place, owner, leaseMs }) => [scope, place, owner?.gateway, leaseMs]),
      [
        ['a', 1, 'gw-1', 15_000],
        ['b', 1, 'gw-2', 15_000],
        ['a', 2, 'gw-3', 15_000],
        ['a', 3, undefined, undefined],
      ],
    )
    assert.deepEqual(open, [{ scope: 'a', gateway: 'gw-4', patch: 'july', token: 1, at: new Date(NOW - 180_000).toISOString() }])
    assert.equal((await readQueues(etcd, 'b')).entries.length, 1)
  })
})

describe('a lock that is broken', () => {
  it('pauses the rollouts that use its scope, in the same transaction, and is kept with its reason', async () => {
    const all = tools()
    const { etcd } = all
    const key = await queued(etcd, 'a', 'gw-1')
    const users = [user('july', 'a'), user('other', 'b'), user('held', 'a', { isActive: false })]
    const found = await findEntry(all, 'a', users)
    assert.ok('entry' in found)
    const broken = await breakAndPause(all, { entry: found.entry, by: 'carol', reason: 'scrapped', users }, signal)
    assert.deepEqual([broken?.entry.key, broken?.paused], [key, ['july']])
    const written = await etcd.list({ prefix: 'patches/' })
    assert.deepEqual(
      written.entries.map((entry) => [entry.key, JSON.parse(Buffer.from(entry.value).toString()) as unknown]),
      [[keys.control('july'), { schema: 1, state: 'paused', by: 'carol', reason: 'lock broken: scrapped' }]],
    )
    assert.equal((await etcd.list({ prefix: 'audit/' })).count, 1)
    assert.equal(await breakAndPause(all, { entry: found.entry, by: 'carol', reason: 'scrapped', users }, signal), undefined)
  })

  it('stands when a control changed meanwhile: a cancel must not become a pause', async () => {
    const all = tools()
    await queued(all.etcd, 'a', 'gw-1')
    const found = await findEntry(all, 'a', [])
    assert.ok('entry' in found)
    await all.etcd.transact({ compare: [], then: [{ put: keys.control('july'), value: Buffer.from('cancelled') }] })
    const users = [user('july', 'a')]
    assert.equal(await breakAndPause(all, { entry: found.entry, by: 'carol', reason: 'x', users }, signal), undefined)
    assert.equal((await readQueues(all.etcd, 'a')).entries.length, 1)
  })

  it('is named by its scope while one holds it, and by its key where several may', async () => {
    const all = tools()
    const [first, second] = [await queued(all.etcd, 'a', 'gw-1'), await queued(all.etcd, 'a', 'gw-2')]
    const keyOf = async (target: string, users: readonly ScopeUser[]): Promise<string> => {
      const found = await findEntry(all, target, users)
      return 'entry' in found ? found.entry.key : found.refused
    }
    assert.equal(await keyOf('a', [user('july', 'a')]), first)
    assert.match(await keyOf('a', [user('july', 'a', { slots: 2 })]), /has 2 places; name one of its entries by its key/)
    assert.equal(await keyOf(second, [user('july', 'a', { slots: 2 })]), second)
    assert.match(await keyOf('b', []), /no lock b is held/)
  })
})

describe('why a patch is where it is', () => {
  const row = {
    patch: 'july',
    kind: 'config',
    channel: 'c',
    sequence: 2,
    state: 'waiting',
    because: 'it waits for its lock',
    inForce: false,
  }
  const base = { row, running: true, nowMs: NOW, caveats: [] }
  const said = (change: object): string => whyDocument({ ...base, ...change }).sentence

  async function waitOf(etcd: FakeEtcd, slots = 1): Promise<LockWait> {
    return { scope: 'a', slots, gateway: 'gw-1', life: 'l', queues: await readQueues(etcd, 'a') }
  }

  it('names who is ahead, how long the lease of each holder lasts, and how many more wait', async () => {
    const { etcd } = tools()
    for (const gateway of ['gw-7', 'gw-8', 'gw-9', 'gw-1', 'gw-2']) await queued(etcd, 'a', gateway)
    assert.equal(
      said({ wait: await waitOf(etcd) }),
      'july: it waits for the lock a, held by gw-7 (its lease has 15 s left, unless it renews it); 2 more are ahead of it',
    )
    assert.match(said({ wait: await waitOf(etcd, 3) }), /held by gw-7 .*, gw-8 .*, gw-9 .*; it is next$/)
    assert.match(said({ wait: await waitOf(etcd, 4) }), /it has the lock a/)
  })

  it('names whose silence it waits for when the lock is held', async () => {
    const { etcd } = tools()
    await queued(etcd, 'a', 'gw-1')
    assert.equal(said({ wait: await waitOf(etcd) }), 'july: it has the lock a, and is about to start')
    await opened(etcd, 'a', 'gw-5', 1)
    assert.equal(
      said({ wait: await waitOf(etcd) }),
      'july: it has the lock a, and waits until it is known how july on gw-5, which began 3 min ago and is silent, ended',
    )
  })

  it('says when a wait ends, what may be old, and what can not be told', () => {
    const because = 'its maintenance window opens at 2026-11-24T14:00:00.000Z'
    const until = '2026-11-24T14:00:00.000Z'
    assert.equal(said({ row: { ...row, because, until } }), `july: ${because} (in 2 h 0 min)`)
    assert.equal(said({ row: { ...row, because }, caveats: ['etcd is not heard'] }), `july: ${because}; but etcd is not heard`)
    assert.equal(said({ row: { ...row, because: 'it can not begin', until } }), 'july: it can not begin (looked at again in 2 h 0 min)')
    const next = { ...row, state: 'next', because: 'it may start' }
    assert.equal(said({ row: next, turn: 'june' }), 'july: it may start as soon as june, which has its turn, is done')
    const wait = { scope: 'a', slots: 1, gateway: 'gw-1', life: 'l', queues: { unknown: 'no answer' } }
    assert.equal(said({ wait }), 'july: it waits for the lock a; who is ahead of it can not be told: no answer')
  })
})
