import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { EtcdFailure } from '../../daemon/patch/ports.ts'
import type { Etcd, Hint } from '../../daemon/patch/ports.ts'
import { FakeEtcd } from '../fakes/etcd.ts'
import { makeCertificates, serviceScope } from '../services/index.ts'
import type { Service } from '../services/index.ts'
import { clock, etcdctl, toolsFor } from './etcd-kit.ts'

interface Subject {
  readonly etcd: Etcd
  /** Forgets the history up to now; watches from the past end. */
  compact(): Promise<void>
}

const bytes = (text: string): Uint8Array => Buffer.from(text)
const put = (key: string, value = key): { readonly put: string; readonly value: Uint8Array } => ({ put: key, value: bytes(value) })

function suite(subjectNow: () => Subject): void {
  const set = (...keys: readonly string[]): Promise<unknown> =>
    subjectNow().etcd.transact({ compare: [], then: keys.map((key) => put(key)) })

  it('carries out the one branch or the other, at one revision', async () => {
    const { etcd } = subjectNow()
    const first = await etcd.transact({ compare: [{ key: 'a/1', create: 0 }], then: [put('a/1', 'x'), put('a/2', 'y')] })
    assert.equal(first.succeeded, true)
    const compare = [{ key: 'a/1', create: 0 }]
    const second = await etcd.transact({ compare, then: [{ delete: 'a/1' }], otherwise: [{ get: 'a/1' }, { get: 'none' }] })
    assert.equal(second.succeeded, false)
    assert.equal(second.revision, first.revision)
    assert.equal(second.clusterId, first.clusterId)
    const [found, none] = second.answers
    assert.deepEqual(
      found?.entries.map(({ key, value, createRevision, modRevision }) => [key, String(Buffer.from(value)), createRevision, modRevision]),
      [['a/1', 'x', first.revision, first.revision]],
    )
    assert.deepEqual(none?.entries, [])
    const third = await etcd.transact({ compare: [{ key: 'a/1', mod: first.revision }], then: [{ delete: 'a/1' }, { delete: 'none' }] })
    assert.deepEqual(
      third.answers.map(({ count }) => count),
      [1, 0],
    )
    assert.equal(third.revision, first.revision + 1)
  })

  it('lists below a prefix, by key or the youngest first, with the count of all', async () => {
    const { etcd } = subjectNow()
    await set('b/2')
    await set('b/1')
    const { revision } = await etcd.transact({ compare: [], then: [put('b/3')] })
    await set('bb/1')
    const keys = async (query: object): Promise<[readonly string[], number]> => {
      const { entries, count } = await etcd.list({ prefix: 'b/', ...query })
      return [entries.map(({ key }) => key), count]
    }
    assert.deepEqual(await keys({}), [['b/1', 'b/2', 'b/3'], 3])
    assert.deepEqual(await keys({ youngestFirst: true, maxCreate: revision - 1, limit: 1, keysOnly: true }), [['b/1'], 3])
    assert.deepEqual(await keys({ minMod: revision }), [['b/3'], 3])
    assert.deepEqual(await keys({ minMod: revision + 1 }), [[], 3])
    assert.deepEqual(
      (await etcd.list({ prefix: 'b/', keysOnly: true })).entries.map(({ value }) => value.length),
      [0, 0, 0],
    )
    const inside = await etcd.transact({ compare: [], then: [{ list: { prefix: 'b/', limit: 2 } }] })
    assert.deepEqual([inside.answers[0]?.entries.length, inside.answers[0]?.count], [2, 3])
  })

  it('lists everything, also beyond a page of the adapter', async () => {
    const { etcd } = subjectNow()
    const keys = Array.from({ length: 100 }, (_, index) => `many/${String(index).padStart(3, '0')}`)
    await set(...keys)
    const { entries, count } = await etcd.list({ prefix: 'many/' })
    assert.deepEqual([entries.map(({ key }) => key), count], [keys, 100])
  })

  it('refuses a revision that is compacted', async () => {
    const subject = subjectNow()
    const { etcd } = subject
    await set('c/1')
    await set('c/1')
    await subject.compact()
    await assert.rejects(etcd.list({ prefix: 'c/', revision: 1 }), (error) => error instanceof EtcdFailure && error.reason === 'compacted')
    const hints: Hint[] = []
    const end = etcd.watch([{ prefix: 'c/' }], 1, (hint) => hints.push(hint))
    while (hints.length === 0) await sleep(10)
    end()
    assert.deepEqual(hints, ['ended'])
  })

  it('ties keys to a lease, which grows to whole seconds, is renewed, and goes', async () => {
    const { etcd } = subjectNow()
    const lease = await etcd.grantLease(4_100)
    assert.equal(lease.ttlMs, 5_000)
    await etcd.transact({ compare: [], then: [{ ...put('d/1'), lease: lease.id }] })
    assert.equal(await etcd.renewLease(lease.id, 1_000), 5_000)
    await etcd.revokeLease(lease.id)
    assert.equal((await etcd.list({ prefix: 'd/' })).count, 0)
    await etcd.revokeLease(lease.id)
    assert.equal(await etcd.renewLease(lease.id, 1_000), undefined)
    const late = etcd.transact({ compare: [], then: [{ ...put('d/1'), lease: lease.id }] })
    await assert.rejects(late, (error) => error instanceof EtcdFailure && error.reason === 'lease-gone' && error.kind === 'fenced')
  })

  it('tells what is left of a lease, renews nothing by that, and knows when it has gone', async () => {
    const { etcd } = subjectNow()
    const { id } = await etcd.grantLease(5_000)
    const first = (await etcd.leaseRemainingMs(id)) ?? 0
    assert.ok(first > 2_000 && first <= 5_000, String(first))
    let left: number | undefined = first
    for (let looks = 0; looks < 30 && left === first; looks++) {
      await sleep(100)
      left = await etcd.leaseRemainingMs(id)
    }
    assert.ok(left !== undefined && left < first, `${left} of ${first}`)
    assert.equal(await etcd.renewLease(id, 1_000), 5_000)
    assert.ok(((await etcd.leaseRemainingMs(id)) ?? 0) > left)
    await etcd.revokeLease(id)
    assert.equal(await etcd.leaseRemainingMs(id), undefined)
  })

  it('hints at changes since a revision, of what is watched only, until the watch is ended', async () => {
    const { etcd } = subjectNow()
    const { revision } = await etcd.transact({ compare: [], then: [put('e/1')] })
    const hints = { past: 0, key: 0, other: 0 }
    const ends = [
      etcd.watch([{ prefix: 'e/' }], revision, () => (hints.past += 1)),
      etcd.watch([{ key: 'e/2' }, { key: 'e/3' }], revision + 1, () => (hints.key += 1)),
      etcd.watch([{ key: 'e' }, { prefix: 'e/9/' }], revision + 1, () => (hints.other += 1)),
    ]
    while (hints.past === 0) await sleep(10)
    await sleep(200)
    assert.equal(hints.key, 0)
    await set('e/3')
    while (hints.key === 0) await sleep(10)
    for (const end of ends) end()
    await sleep(50)
    const before = { ...hints }
    await set('e/3')
    await sleep(200)
    assert.deepEqual(hints, before)
    assert.equal(hints.other, 0)
  })

  it('tells each change once, with its key, of a range with both of its ends', async () => {
    const { etcd } = subjectNow()
    const { revision } = await etcd.transact({ compare: [], then: [put('f/1')] })
    const told: string[] = []
    const targets = [{ from: 'f/2', to: 'f/4' }, { key: 'f/6' }]
    const end = etcd.watch(targets, revision + 1, (_, changed = []) => told.push(...changed))
    await sleep(200) // both of the watches that the adapter opens for each target are on their way
    for (const name of ['f/1', 'f/2', 'f/3', 'f/4', 'f/40', 'f/5', 'f/6']) await set(name)
    await etcd.transact({ compare: [], then: [{ delete: 'f/3' }] })
    while (told.length < 5) await sleep(10)
    await sleep(300)
    end()
    assert.deepEqual(told.sort(), ['f/2', 'f/3', 'f/3', 'f/4', 'f/6'])
  })
}

describe('etcd in memory, as the port of the patch path', { timeout: 120_000 }, () => {
  const etcd = new FakeEtcd(clock)
  suite(() => ({ etcd, compact: async () => etcd.compact() }))
  after(() => etcd.expireAll())
})

describe('etcd behind the adapter, as the port of the patch path', { timeout: 120_000 }, () => {
  const scope = serviceScope()
  let service: Service
  let tools: ReturnType<typeof toolsFor>
  before(async () => {
    service = await scope.etcd()
    tools = toolsFor(service.port)
    scope.atEnd(() => tools.etcd.close())
  })
  suite(() => ({
    etcd: tools.etcd,
    async compact() {
      const { revision } = await tools.etcd.list({ prefix: 'none/' })
      await etcdctl(service.endpoint, 'compact', String(revision))
    },
  }))

  it('refuses what etcd will never take, and says that it is no use to try again', async () => {
    const huge = tools.etcd.transact({ compare: [], then: [{ put: 'huge', value: new Uint8Array(2_000_000) }] })
    await assert.rejects(huge, (error) => error instanceof EtcdFailure && error.reason === 'refused' && error.kind === 'rejected')
    const many = Array.from({ length: 129 }, (_, index) => put(`f/${index}`))
    const wide = tools.etcd.transact({ compare: [], then: many })
    await assert.rejects(wide, (error) => error instanceof EtcdFailure && error.reason === 'refused')
  })

  it('lists beyond its largest page, and what does not fit into one message, all as of one revision', async () => {
    const large = toolsFor(service.port, { timeoutMs: 30_000 })
    scope.atEnd(() => large.etcd.close())
    const names = Array.from({ length: 1_100 }, (_, index) => `p/${String(index).padStart(4, '0')}`)
    for (let at = 0; at < names.length; at += 100)
      await large.etcd.transact({ compare: [], then: names.slice(at, at + 100).map((key) => put(key)) })
    const small = await large.etcd.list({ prefix: 'p/' })
    assert.deepEqual([small.entries.map(({ key }) => key), small.count], [names, names.length])
    const value = new Uint8Array(1_000_000)
    for (const key of names.slice(0, 70)) await large.etcd.transact({ compare: [], then: [{ put: key, value }] })
    const sizes: number[] = []
    const seen: string[] = []
    for await (const page of large.etcd.pages({ prefix: 'p/', revision: small.revision + 70 })) {
      if (seen.length === 0) await large.etcd.transact({ compare: [], then: [{ delete: 'p/1099' }] })
      seen.push(...page.entries.map(({ key }) => key))
      sizes.push(page.entries.length)
    }
    assert.deepEqual(seen, names)
    assert.equal(Math.max(...sizes), 32)
  })

  it('ends each call at its timeout, takes a new connection then, and tells the watches', async () => {
    const proxy = await scope.proxy({ target: service.port })
    const cut = toolsFor(proxy.port, { timeoutMs: 400 })
    scope.atEnd(() => cut.etcd.close())
    await cut.etcd.list({ prefix: 'g/' })
    const hints: Hint[] = []
    cut.etcd.watch([{ prefix: 'g/' }], 1, (hint) => hints.push(hint))
    const connections = proxy.accepted
    proxy.halfOpen()
    await assert.rejects(
      cut.etcd.list({ prefix: 'g/' }),
      (error) => error instanceof EtcdFailure && error.reason === 'unavailable' && error.fate === 'unknown',
    )
    assert.deepEqual(
      hints.filter((hint) => hint === 'ended'),
      ['ended'],
    )
    await proxy.heal()
    await cut.etcd.list({ prefix: 'g/' })
    assert.ok(proxy.accepted > connections)
  })

  it('keeps its connection while watches come and go', async () => {
    const proxy = await scope.proxy({ target: service.port })
    const own = toolsFor(proxy.port)
    scope.atEnd(() => own.etcd.close())
    for (let round = 0; round < 20; round++) {
      const { revision } = await own.etcd.transact({ compare: [], then: [put('h/1')] })
      await new Promise<void>((resolve) => {
        const end = own.etcd.watch([{ key: 'h/1' }], revision, () => {
          end()
          resolve()
        })
      })
    }
    assert.equal(proxy.accepted, 1)
  })

  it('speaks TLS with a certificate of its own, and says what is wrong with a file', async () => {
    const dir = scope.folder()
    const made = await makeCertificates(dir)
    const tls = { keyFile: made.server.keyFile, certFile: made.server.certFile, clientCaFile: made.caFile }
    const secure = await scope.etcd({ tls })
    const endpoints = [{ host: '127.0.0.1', port: secure.port, secure: true }]
    const files = { ca: made.caFile, cert: made.client.certFile, key: made.client.keyFile }
    const own = toolsFor(secure.port, { endpoints, tls: files })
    scope.atEnd(() => own.etcd.close())
    assert.equal((await own.etcd.list({ prefix: 'i/' })).count, 0)
    const stranger = toolsFor(secure.port, { endpoints, tls: { ca: made.caFile, cert: undefined, key: undefined }, timeoutMs: 500 })
    scope.atEnd(() => stranger.etcd.close())
    await assert.rejects(stranger.etcd.list({ prefix: 'i/' }), EtcdFailure)
    const missing = toolsFor(secure.port, { endpoints, tls: { ...files, ca: '/nowhere/ca.crt' } })
    await assert.rejects(
      missing.etcd.list({ prefix: 'i/' }),
      (error) => error instanceof EtcdFailure && error.reason === 'credentials' && /\/nowhere\/ca\.crt/.test(error.message),
    )
  })
})
