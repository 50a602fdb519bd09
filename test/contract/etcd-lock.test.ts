import assert from 'node:assert/strict'
import { once } from 'node:events'
import { before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../../daemon/clock.ts'
import { kindOf } from '../../daemon/errors.ts'
import { breakLock, encodeOwner, entryKey, listLocks } from '../../daemon/patch/lock-entries.ts'
import { withLease } from '../../daemon/patch/lock.ts'
import type { FencingToken, LockRequest } from '../../daemon/patch/lock.ts'
import { openSession } from '../../daemon/patch/session.ts'
import { retrying, type Tools } from '../../daemon/patch/wait.ts'
import { judge, registerKey } from '../fakes/lock-judge.ts'
import { serviceScope } from '../services/index.ts'
import type { Service } from '../services/index.ts'
import { startHolder } from './etcd-holder.ts'
import type { Holder } from './etcd-holder.ts'
import { clock, etcdctl, forever, leaderOf, readHistory, requestFor, slots, toolsFor } from './etcd-kit.ts'

const scope = serviceScope()
let etcd: Service
let tools: ReturnType<typeof toolsFor>

before(async () => {
  etcd = await scope.etcd()
  tools = newTools(etcd.port)
})

function newTools(port: number, changes: { readonly clock?: Clock } = {}): ReturnType<typeof toolsFor> {
  const made = toolsFor(port, changes)
  scope.atEnd(() => made.etcd.close())
  return made
}

function newHolder(name: string, mode: 'wake' | 'block', port = etcd.port): Holder {
  const holder = startHolder(port, name, mode)
  scope.atEnd(() => void holder.child.kill('SIGKILL'))
  return holder
}

/** The fenced write of a holder; the judge reads it in etcd's history. */
function write(by: Tools, name: string, token: FencingToken): Promise<{ readonly succeeded: boolean }> {
  const value = Buffer.from(String(token.revision))
  return by.etcd.transact({ compare: [token.compare], then: [{ put: registerKey(name), value }] })
}

/** Holds until it is told to let go. */
function holdUntilTold(
  by: Tools,
  request: LockRequest,
): { readonly held: Promise<FencingToken>; readonly signal: Promise<AbortSignal>; letGo(): void; readonly done: Promise<void> } {
  const [held, signal, told] = [Promise.withResolvers<FencingToken>(), Promise.withResolvers<AbortSignal>(), Promise.withResolvers<void>()]
  const done = withLease(by, request, forever, async (token, lost) => {
    // Said twice it is the same write: a member that dies in the middle is no fault of the lock.
    await retrying(by, lost, () => write(by, request.scope, token))
    held.resolve(token)
    signal.resolve(lost)
    await told.promise
    return { value: undefined }
  })
  done.catch((error: unknown) => held.reject(error as Error))
  held.promise.catch(() => undefined)
  return { held: held.promise, signal: signal.promise, letGo: () => told.resolve(), done }
}

async function untilQueued(name: string, count: number): Promise<void> {
  while ((await listLocks(tools, name)).length < count) await sleep(10)
}

describe('the lock on etcd', { timeout: 120_000 }, () => {
  it('lets 50 contenders in one at a time, in the order of their create revisions', async (t) => {
    let inside = 0
    let most = 0
    const freed: number[] = []
    const handoverMs: number[] = []
    const links = Array.from({ length: 5 }, () => newTools(etcd.port))
    const contender = (by: Tools, index: number): Promise<void> =>
      withLease(by, requestFor('fifty', `gw-${index}`, { ttlMs: 15_000 }), forever, async (token) => {
        const before = freed.at(-1)
        if (before !== undefined) handoverMs.push(performance.now() - before)
        most = Math.max(most, ++inside)
        await write(by, 'fifty', token)
        await sleep(2)
        inside -= 1
        freed.push(performance.now())
        return { value: undefined, results: [{ put: `gateways/gw-${index}/results/p`, value: Buffer.from('done') }] }
      })
    await Promise.all(Array.from({ length: 50 }, (_, index) => contender(links[index % 5] ?? tools, index)))

    const verdict = judge(await readHistory(etcd.endpoint), 'fifty', 1)
    assert.deepEqual(verdict.violations, [])
    assert.equal(most, 1)
    assert.equal(verdict.writers.length, 50)
    assert.deepEqual(verdict.writers, verdict.entered)
    assert.deepEqual(verdict.left, [])
    assert.equal((await tools.etcd.list({ prefix: 'gateways/', keysOnly: true })).count, 50)
    const sorted = handoverMs.sort((left, right) => left - right)
    t.diagnostic(`handover of ${sorted.length}: p50 ${sorted[24]?.toFixed(1)} ms, longest ${sorted.at(-1)?.toFixed(1)} ms`)
  })

  it('never has more holders than slots, and reaches them', async () => {
    let inside = 0
    let most = 0
    const contender = (index: number): Promise<void> =>
      withLease(tools, requestFor('three', `gw-${index}`, { slots: slots(3) }), forever, async (token) => {
        most = Math.max(most, ++inside)
        await write(tools, 'three', token)
        await sleep(10 + (index % 4) * 15)
        await write(tools, 'three', token)
        inside -= 1
        return { value: undefined }
      })
    await Promise.all(Array.from({ length: 20 }, (_, index) => contender(index)))
    const verdict = judge(await readHistory(etcd.endpoint), 'three', 3)
    assert.deepEqual(verdict.violations, [])
    assert.equal(verdict.writers.length, 20)
    assert.equal(most, 3)
  })

  it('lets more in when slots are added, and nobody when they are taken', async () => {
    const listeners = new Set<() => void>()
    const counted = {
      count: 1,
      onChange(listener: () => void) {
        listeners.add(listener)
        return () => void listeners.delete(listener)
      },
    }
    const setCount = (count: number): void => {
      counted.count = count
      for (const listener of [...listeners]) listener()
    }
    const ask = (gateway: string): ReturnType<typeof holdUntilTold> =>
      holdUntilTold(tools, requestFor('growing', gateway, { slots: counted, ttlMs: 600_000 }))
    const first = ask('a')
    await first.held
    const second = ask('b')
    await untilQueued('growing', 2)
    setCount(2)
    await second.held

    setCount(1)
    const third = ask('c')
    await untilQueued('growing', 3)
    first.letGo()
    await first.done
    assert.equal(await Promise.race([third.held.then(() => 'in'), sleep(300, 'waits')]), 'waits')
    second.letGo()
    await third.held
    third.letGo()
    await Promise.all([second.done, third.done])
    assert.equal(listeners.size, 0)
  })

  it('keeps locks apart whose names are prefixes of one another', async () => {
    const names = ['plant', 'plant-7', 'plant/7', 'plant/']
    const holds = names.map((name) => holdUntilTold(tools, requestFor(name, 'gw')))
    await Promise.all(holds.map(({ held }) => held))
    for (const [index, name] of names.entries()) {
      assert.deepEqual(
        (await listLocks(tools, name)).map((entry) => entry.scope),
        [name],
        `entries of ${names[index]}`,
      )
    }
    for (const hold of holds) hold.letGo()
    await Promise.all(holds.map(({ done }) => done))
  })

  it('counts with the TTL that etcd gave, not with the one asked for', async () => {
    const short = await openSession(tools.etcd, clock, { ttlMs: 1_000 })
    assert.ok(short.remainingMs() > 1_000 && short.remainingMs() < 2_000, `${short.remainingMs()} ms of the 2 s granted for 1 s`)
    const odd = await openSession(tools.etcd, clock, { ttlMs: 4_200 })
    assert.ok(odd.remainingMs() > 4_200 && odd.remainingMs() < 5_000, `${odd.remainingMs()} ms of the 5 s granted for 4.2 s`)
    await Promise.all([short.close(), odd.close()])
  })

  it('removes what an earlier life of the same gateway left, and only that', async () => {
    const lease = await tools.etcd.grantLease(60_000)
    const other = await tools.etcd.grantLease(60_000)
    const put = (id: string, gateway: string, life: string): Promise<unknown> =>
      tools.etcd.transact({ compare: [], then: [{ put: entryKey('stale', id), value: encodeOwner({ gateway, life }), lease: id }] })
    await put(lease.id, 'gw-1', 'before')
    const hold = holdUntilTold(tools, requestFor('stale', 'gw-1'))
    await hold.held
    await put(other.id, 'gw-2', 'before')
    const later = holdUntilTold(tools, requestFor('stale', 'gw-1'))
    await untilQueued('stale', 3)
    assert.deepEqual(
      (await listLocks(tools, 'stale')).map(({ owner }) => owner?.gateway),
      ['gw-1', 'gw-2', 'gw-1'],
    )
    hold.letGo()
    await tools.etcd.revokeLease(other.id)
    await later.held
    later.letGo()
    await Promise.all([hold.done, later.done])
  })
})

describe('a lock that is lost', { timeout: 120_000 }, () => {
  it(
    'patch path 1: a waiter whose lease is revoked by hand notices at once, behind a holder who stays, and is never granted',
    { timeout: 60_000 },
    async () => {
      // With this TTL neither a renewal nor a look of its own comes within the test's time.
      const holder = holdUntilTold(tools, requestFor('revoked', 'holder', { ttlMs: 600_000 }))
      await holder.held
      const waiting = withLease(tools, requestFor('revoked', 'waiter', { ttlMs: 600_000 }), forever, () =>
        Promise.reject(new Error('granted')),
      )
      const refused = assert.rejects(waiting, (error) => kindOf(error) === 'fenced')
      await untilQueued('revoked', 2)
      const [, entry] = await listLocks(tools, 'revoked')
      await etcdctl(etcd.endpoint, 'lease', 'revoke', entry?.leaseHex ?? '')
      await refused
      assert.equal((await holder.signal).aborted, false)
      holder.letGo()
      await holder.done
    },
  )

  it('patch path 1: a waiter that can no longer renew ends at its own deadline, and is not granted later', async () => {
    const proxy = await scope.proxy({ target: etcd.port })
    const holder = holdUntilTold(tools, requestFor('expired', 'holder'))
    await holder.held
    const waiting = withLease(newTools(proxy.port), requestFor('expired', 'waiter'), forever, () => Promise.reject(new Error('granted')))
    const refused = assert.rejects(waiting, (error) => kindOf(error) === 'fenced')
    await untilQueued('expired', 2)
    proxy.halfOpen()
    await refused
    await proxy.heal()
    while ((await listLocks(tools, 'expired')).length > 1) await sleep(50)
    const next = holdUntilTold(tools, requestFor('expired', 'next'))
    holder.letGo()
    await next.held
    next.letGo()
    await Promise.all([holder.done, next.done])
    assert.deepEqual(judge(await readHistory(etcd.endpoint), 'expired', 1).violations, [])
  })

  it('patch path 8: a lock is broken by hand, compared and audited, and its holder is told', { timeout: 60_000 }, async () => {
    const holder = holdUntilTold(tools, requestFor('broken', 'removed', { ttlMs: 600_000 }))
    const token = await holder.held
    const waiter = holdUntilTold(tools, requestFor('broken', 'next', { ttlMs: 600_000 }))
    await untilQueued('broken', 2)
    const [entry] = await listLocks(tools, 'broken')
    assert.ok(entry)
    assert.equal(entry.token, token.revision)
    const order = { by: 'ada', reason: 'box was scrapped', atMs: 5, also: [{ put: 'patches/p/control', value: Buffer.from('paused') }] }
    assert.equal(await breakLock(tools, { ...entry, token: entry.token - 1 }, order, forever), false)
    assert.equal((await tools.etcd.list({ prefix: 'audit/' })).count, 0)
    assert.equal(await breakLock(tools, entry, order, forever), true)

    const lost = await holder.signal
    if (!lost.aborted) await once(lost, 'abort')
    assert.equal(kindOf(lost.reason), 'fenced')
    assert.throws(
      () => token.assertFits(0),
      (error) => kindOf(error) === 'fenced',
    )
    assert.equal((await write(tools, 'broken', token)).succeeded, false)
    await waiter.held
    const records = await tools.etcd.list({ prefix: 'audit/' })
    assert.equal(records.count, 1)
    const expected = {
      schema: 1,
      action: 'lock break',
      scope: 'broken',
      token: token.revision,
      owner: { gateway: 'removed', life: 'life-1' },
      by: 'ada',
      reason: 'box was scrapped',
      at: '1970-01-01T00:00:00.005Z',
    }
    assert.deepEqual(JSON.parse(String(records.entries[0]?.value)), expected)
    assert.equal((await tools.etcd.list({ prefix: 'patches/p/control' })).count, 1)
    holder.letGo()
    await assert.rejects(holder.done, (error) => kindOf(error) === 'fenced')
    waiter.letGo()
    await waiter.done
  })

  it('patch path 2: a holder that was stopped beyond its TTL changes nothing more', async () => {
    const holder = newHolder('stopped', 'wake')
    const { token } = await holder.next('holds')
    const next = holdUntilTold(tools, requestFor('stopped', 'next'))
    await untilQueued('stopped', 2)
    holder.child.kill('SIGSTOP')
    const after = await next.held
    assert.ok(after.revision > Number(token))
    await sleep(1_500)
    holder.child.kill('SIGCONT')
    assert.deepEqual(await holder.next('wrote'), { event: 'wrote', succeeded: false })
    assert.equal((await holder.next('ended'))['kind'], 'fenced')
    assert.equal((await write(tools, 'stopped', after)).succeeded, true)
    next.letGo()
    await next.done
    assert.deepEqual(judge(await readHistory(etcd.endpoint), 'stopped', 1).violations, [])
  })

  it('patch path 2: a holder whose event loop stands still for twice its TTL knows it first thing', async () => {
    const holder = newHolder('blocked', 'block')
    await holder.next('holds')
    const next = holdUntilTold(tools, requestFor('blocked', 'next'))
    await next.held
    assert.deepEqual(await holder.next('awake'), { event: 'awake', remainingMs: 0, aborted: true })
    assert.deepEqual(await holder.next('wrote'), { event: 'wrote', succeeded: false })
    assert.equal((await holder.next('ended'))['kind'], 'fenced')
    next.letGo()
    await next.done
    assert.deepEqual(judge(await readHistory(etcd.endpoint), 'blocked', 1).violations, [])
  })

  it('patch path 6: a holder cut off from etcd is told at its own deadline, before etcd lets the next one in', async () => {
    const proxy = await scope.proxy({ target: etcd.port })
    const holder = holdUntilTold(newTools(proxy.port), requestFor('cut-off', 'holder'))
    const token = await holder.held
    const next = holdUntilTold(tools, requestFor('cut-off', 'next'))
    await untilQueued('cut-off', 2)
    const order: string[] = []
    const lost = await holder.signal
    lost.addEventListener('abort', () => order.push('told'))
    void next.held.then(() => order.push('next'))
    proxy.halfOpen()
    await next.held
    assert.deepEqual(order, ['told', 'next'])
    assert.equal(token.remainingMs(), 0)
    await proxy.heal()
    holder.letGo()
    next.letGo()
    await assert.rejects(holder.done, (error) => kindOf(error) === 'fenced')
    await next.done
  })

  it('patch path 6: a wall clock that jumps by an hour, either way, neither ends nor prolongs a lock', async () => {
    let jumpMs = 0
    const jumping: Clock = {
      wallMs: () => clock.wallMs() + jumpMs,
      monotonicMs: () => clock.monotonicMs(),
      bootMs: () => clock.bootMs(),
      bootId: clock.bootId,
      wallTrusted: () => true,
      after: (ms, fn) => clock.after(ms, fn),
    }
    const holder = holdUntilTold(newTools(etcd.port, { clock: jumping }), requestFor('jumping', 'holder'))
    const token = await holder.held
    for (const hour of [1, -1]) {
      jumpMs = hour * 3_600_000
      await sleep(1_300) // a renewal at least
      assert.ok(token.remainingMs() > 0 && token.remainingMs() < 2_000)
      assert.equal((await write(tools, 'jumping', token)).succeeded, true)
    }
    assert.equal((await holder.signal).aborted, false)
    holder.letGo()
    await holder.done
  })
})

describe('a lock over a bad link', { timeout: 120_000 }, () => {
  it('patch path 4: an enqueue whose answer is lost leaves one entry, and no ghost when it is given up', async () => {
    const proxy = await scope.proxy({ target: etcd.port })
    const cut = newTools(proxy.port)
    const calls: string[] = []
    // The answer to the enqueue is lost: the entry stands in etcd, and the contender does not know.
    const lossy: Tools = {
      ...cut,
      etcd: watching(
        cut.etcd,
        (name) => calls.push(name),
        async (name, run) => {
          if (name !== 'enqueue' || calls.filter((call) => call === name).length > 1) return run()
          proxy.dropResponses()
          await run().finally(() => proxy.heal())
          throw new Error('the answer came through')
        },
      ),
    }
    const hold = holdUntilTold(lossy, requestFor('ambiguous', 'gw', { ttlMs: 10_000 }))
    await hold.held
    assert.equal(calls.filter((call) => call === 'enqueue').length, 2)
    assert.equal((await listLocks(tools, 'ambiguous')).length, 1)

    const stop = new AbortController()
    const ghost: Tools = {
      ...cut,
      etcd: watching(
        cut.etcd,
        () => undefined,
        async (name, run) => {
          if (name !== 'enqueue') return run()
          proxy.dropResponses()
          const attempt = run()
          attempt.catch(() => undefined)
          await untilQueued('ambiguous', 2)
          await proxy.heal()
          stop.abort(new Error('given up'))
          return attempt
        },
      ),
    }
    await assert.rejects(
      withLease(ghost, requestFor('ambiguous', 'ghost', { ttlMs: 60_000 }), stop.signal, () => Promise.reject(new Error('granted'))),
      /given up/,
    )
    assert.deepEqual(
      (await listLocks(tools, 'ambiguous')).map(({ owner }) => owner?.gateway),
      ['gw'],
    )
    hold.letGo()
    await hold.done
    const verdict = judge(await readHistory(etcd.endpoint), 'ambiguous', 1)
    assert.deepEqual(verdict.violations, [])
    assert.deepEqual(verdict.left, [])
  })

  it('patch path 3: a release whose answer is lost is repeated, and takes nobody else’s lock', async () => {
    const proxy = await scope.proxy({ target: etcd.port })
    const cut = newTools(proxy.port)
    let releases = 0
    const next = Promise.withResolvers<FencingToken>()
    const nextHold = Promise.withResolvers<ReturnType<typeof holdUntilTold>>()
    const lossy: Tools = {
      ...cut,
      etcd: watching(
        cut.etcd,
        () => undefined,
        async (name, run) => {
          if (name !== 'release' || releases++ > 0) return run()
          proxy.dropResponses()
          const attempt = run()
          attempt.catch(() => undefined)
          // Before the release is repeated, the next one holds.
          next.resolve(await (await nextHold.promise).held)
          await proxy.heal()
          proxy.cut()
          return attempt
        },
      ),
    }
    const first = withLease(lossy, requestFor('repeated', 'first', { ttlMs: 20_000 }), forever, async () => {
      nextHold.resolve(holdUntilTold(tools, requestFor('repeated', 'next', { ttlMs: 20_000 })))
      await untilQueued('repeated', 2)
      return { value: 'applied', results: [{ put: 'gateways/first/results/p', value: Buffer.from('done 1') }] }
    })
    assert.equal(await first, 'applied')
    assert.equal(releases, 2)
    const token = await next.promise
    assert.equal((await write(tools, 'repeated', token)).succeeded, true)
    const hold = await nextHold.promise
    assert.equal((await hold.signal).aborted, false)
    hold.letGo()
    await hold.done
    assert.equal((await tools.etcd.list({ prefix: 'gateways/first/results/' })).count, 1)
  })

  it('writes no result when the lock was lost before the release', async () => {
    const run = withLease(tools, requestFor('late', 'gw', { ttlMs: 60_000 }), forever, async (token) => {
      await tools.etcd.transact({ compare: [], then: [{ delete: token.compare.key }] })
      return { value: undefined, results: [{ put: 'gateways/late/results/p', value: Buffer.from('done') }] }
    })
    await assert.rejects(run, (error) => kindOf(error) === 'fenced')
    assert.equal((await tools.etcd.list({ prefix: 'gateways/late/' })).count, 0)
  })
})

describe('a lock while etcd has trouble', { timeout: 120_000 }, () => {
  it('patch path 2: etcd stopped beyond the TTL: the holder is told meanwhile, and nobody writes without the lock', async () => {
    const own = await scope.etcd()
    const [first, second] = [newTools(own.port), newTools(own.port)]
    const holder = holdUntilTold(first, requestFor('paused', 'holder'))
    const token = await holder.held
    const next = holdUntilTold(second, requestFor('paused', 'next', { ttlMs: 30_000 }))
    while ((await listLocks(first, 'paused')).length < 2) await sleep(10)
    own.pause()
    const lost = await holder.signal
    await once(lost, 'abort')
    assert.equal(kindOf(lost.reason), 'fenced')
    await sleep(1_500)
    own.resume()
    await next.held
    assert.equal((await write(first, 'paused', token).catch(() => ({ succeeded: false }))).succeeded, false)
    holder.letGo()
    next.letGo()
    await assert.rejects(holder.done, (error) => kindOf(error) === 'fenced')
    await next.done
    assert.deepEqual(judge(await readHistory(own.endpoint), 'paused', 1).violations, [])
  })

  it('is kept over the death of the leader, and handed over afterwards', async () => {
    const cluster = await scope.etcdCluster(3)
    const by = toolsFor(cluster.members.map(({ port }) => port))
    scope.atEnd(() => by.etcd.close())
    const holder = holdUntilTold(by, requestFor('leader', 'holder', { ttlMs: 10_000 }))
    const token = await holder.held
    const next = holdUntilTold(by, requestFor('leader', 'next', { ttlMs: 10_000 }))
    while ((await listLocks(by, 'leader')).length < 2) await sleep(10)
    const leader = await leaderOf(cluster)
    await leader.kill('SIGKILL')
    while (!(await write(by, 'leader', token).catch(() => undefined))) await sleep(50)
    assert.equal((await holder.signal).aborted, false)
    holder.letGo()
    await Promise.all([holder.done, next.held])
    next.letGo()
    await next.done
    const other = cluster.members.find((member) => member !== leader)
    assert.deepEqual(judge(await readHistory(other?.endpoint ?? ''), 'leader', 1).violations, [])
  })

  it('a compaction while it waits does not make it miss its turn', async () => {
    const own = await scope.etcd()
    const by = newTools(own.port)
    const holder = holdUntilTold(by, requestFor('compacted', 'holder', { ttlMs: 60_000 }))
    await holder.held
    const next = holdUntilTold(by, requestFor('compacted', 'next', { ttlMs: 60_000 }))
    while ((await listLocks(by, 'compacted')).length < 2) await sleep(10)
    for (let round = 0; round < 3; round++) {
      const { revision } = await by.etcd.transact({ compare: [], then: [{ put: 'noise', value: Buffer.from(String(round)) }] })
      await etcdctl(own.endpoint, 'compact', String(revision))
    }
    await own.restart() // every watch begins anew, at a revision that is gone
    holder.letGo()
    await Promise.all([holder.done, next.held])
    next.letGo()
    await next.done
  })
})

type Named = 'enqueue' | 'release' | 'look' | 'other'

/** Sees which of the lock's transactions is sent, so that a fault can be timed; carries nothing out by itself. */
function watching(
  inner: Tools['etcd'],
  note: (name: Named) => void,
  around: <T>(name: Named, run: () => Promise<T>) => Promise<T>,
): Tools['etcd'] {
  return {
    list: (query) => inner.list(query),
    grantLease: (ttlMs) => inner.grantLease(ttlMs),
    renewLease: (id, timeoutMs) => inner.renewLease(id, timeoutMs),
    leaseRemainingMs: (id) => inner.leaseRemainingMs(id),
    revokeLease: (id) => inner.revokeLease(id),
    watch: (targets, revision, onHint) => inner.watch(targets, revision, onHint),
    transact(transaction) {
      const name = nameOf(transaction.then[0] ?? {})
      note(name)
      return around(name, () => inner.transact(transaction))
    },
  }
}

function nameOf(first: object): Named {
  if ('put' in first && String(first.put).startsWith('locks/')) return 'enqueue'
  if ('delete' in first) return 'release'
  return 'list' in first || 'get' in first ? 'look' : 'other'
}
