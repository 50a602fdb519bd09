import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import fc from 'fast-check'
import { parseKey } from '../../config/dotted.ts'
import { thisHost } from '../../config/host.ts'
import { fixedKeys } from '../../config/patchable.ts'
import { formatPath } from '../../config/problem.ts'
import { aboveOf, loadLayered } from '../../daemon/compose/layers.ts'
import { TrialMark } from '../../daemon/compose/trial.ts'
import { anchored, layerKey, layersIn, remainingMs, type ConfigLayer, type Override } from '../../daemon/patch/config-layers.ts'
import type { Json, JsonObject } from '../../daemon/patch/memory.ts'

const dir = mkdtempSync(join(tmpdir(), 'edge-layers-'))
after(() => rmSync(dir, { recursive: true }))

function files(text: string) {
  const path = join(dir, 'config.yaml')
  writeFileSync(path, text)
  return { path, host: thisHost() }
}

function layer(sequence: number, merge: JsonObject): ConfigLayer {
  return { patch: `p${sequence}`, channel: 'c', sequence, merge, trial: false, replaced: {} }
}

const rate = (messagesPerSecond: Json): JsonObject => ({ limits: { perDevice: { messagesPerSecond } } })
const FILE = 'gateway: { id: gw-1 }\n'

describe('layers above the files', () => {
  it('patch path 24: are merged by sequence, whatever the order in which they came', () => {
    const all = [layer(1_000, rate(3)), layer(41, rate(1)), layer(42, rate(2))]
    fc.assert(
      fc.property(fc.shuffledSubarray(all, { minLength: 3, maxLength: 3 }), (came) => {
        const memory = new Map(came.map((one) => [layerKey(one), { ...one }]))
        const { loaded } = loadLayered(files(FILE), layersIn(memory).map(aboveOf))
        assert.equal(loaded.settings.limits.perDevice.messagesPerSecond, 3)
      }),
    )
  })

  it('patch path 24: without 41, 42 stands', () => {
    const both = [layer(41, { ...rate(1), log: { level: 'debug' } }), layer(42, rate(2))]
    const load = (layers: readonly ConfigLayer[]) => loadLayered(files(FILE), layers.map(aboveOf)).loaded.settings
    assert.deepEqual([load(both).limits.perDevice.messagesPerSecond, load(both).log.level], [2, 'debug'])
    const rest = load(both.slice(1))
    assert.deepEqual([rest.limits.perDevice.messagesPerSecond, rest.log.level], [2, 'info'])
  })

  it('patch path 25: one that this version does not know is left out and named, and the others are in force', () => {
    const layers = [layer(1, { ...rate(5), abolished: { key: 1 } }), layer(2, { log: { level: 'debug' } })]
    const { loaded, leftOut } = loadLayered(files(FILE), layers.map(aboveOf))
    assert.deepEqual([loaded.settings.limits.perDevice.messagesPerSecond, loaded.settings.log.level], [200, 'debug'])
    assert.deepEqual(
      leftOut.map(({ label }) => label),
      ['patch p1'],
    )
    assert.match(leftOut[0]?.reason ?? '', /abolished/)
  })

  it('patch path 25: one that needs a later one is in force with it', () => {
    const need = layer(1, { mqtt: { topics: { t: { pattern: 'a/{device}', sources: ['plant'] } } } })
    const give = layer(2, { mqtt: { connect: { plant: { url: 'mqtt://127.0.0.1:1' } } } })
    const broken = layer(3, { abolished: true })
    const { leftOut } = loadLayered(files(FILE), [need, give, broken].map(aboveOf))
    assert.deepEqual(
      leftOut.map(({ label }) => label),
      ['patch p3'],
    )
  })

  it('refuses what only the files may set, in whatever way it is touched', () => {
    for (const [patch, key] of [
      [{ gateway: { id: 'x' } }, 'gateway.id'],
      [{ gateway: null }, 'gateway.dataDir'],
      [{ kafka: null }, 'kafka.prefix'],
      [{ patches: { controller: true } }, 'patches'],
      [{ etcd: null }, 'etcd'],
    ] as const) {
      assert.match(fixedKeys(patch).join(), new RegExp(key.replace('.', '\\.')))
      const { leftOut } = loadLayered(files(FILE), [aboveOf(layer(1, patch))])
      assert.equal(leftOut.length, 1)
    }
    assert.deepEqual(fixedKeys({ gateway: { site: 'a' }, kafka: { topic: 'x' } }), [])
  })
})

describe('an override', () => {
  const set: Override = {
    key: 'log.level',
    path: ['log', 'level'],
    value: 'debug',
    by: 'root',
    reason: '',
    setMs: 1_000_000,
    untilMs: 1_060_000,
    trusted: true,
    bootId: 'a',
    bootMs: 5_000,
  }
  const clock = (change: object) => ({ bootId: 'a', bootMs: () => 5_000, wallMs: () => 1_000_000, wallTrusted: () => true, ...change })

  it('goes by the boot clock, whatever the wall clock does', () => {
    for (const wall of [0, 1_000_000, 9e12]) assert.equal(remainingMs(set, clock({ wallMs: () => wall, bootMs: () => 35_000 })), 30_000)
    assert.equal(remainingMs(set, clock({ wallMs: () => 0, bootMs: () => 65_000 })), 0)
  })

  it('after a reboot goes by the wall clock, and ends when that is not to be believed or went back', () => {
    const later = { bootId: 'b', bootMs: () => 0 }
    assert.equal(remainingMs(set, clock({ ...later, wallMs: () => 1_020_000 })), 40_000)
    assert.equal(remainingMs(set, clock({ ...later, wallMs: () => 1_020_000, wallTrusted: () => false })), 0)
    assert.equal(remainingMs(set, clock({ ...later, wallMs: () => 999_999 })), 0)
    assert.equal(remainingMs({ ...set, trusted: false }, clock({ ...later, wallMs: () => 1_020_000 })), 0)
  })

  it('bound to the next boot gets no more than was left', () => {
    const now = clock({ bootId: 'b', bootMs: () => 100, wallMs: () => 1_020_000 })
    const bound = anchored(set, now)
    assert.equal(remainingMs(bound, now), 40_000)
    assert.equal(remainingMs(bound, { ...now, wallMs: () => 0, bootMs: () => 40_100 }), 0)
  })
})

describe('the mark of a start on trial', () => {
  const labels = new Map([['layers/1-p', 'patch p']])
  const fresh = (): TrialMark => new TrialMark(mkdtempSync(join(dir, 'mark-')))

  it('bars after a refused start, or after three that ended without a word; not after power cuts in two', () => {
    const mark = fresh()
    for (const starts of [1, 2, 3]) {
      assert.deepEqual(mark.barred(labels), [], `before start ${starts}`)
      mark.begin('layers/1-p')
    }
    assert.match(mark.barred(labels)[0]?.reason ?? '', /3 starts with it ended/)
    mark.clear()
    mark.begin('layers/1-p')
    mark.failed('layers/1-p', 'port 1 is taken')
    assert.match(mark.barred(labels)[0]?.reason ?? '', /port 1 is taken/)
    mark.forgetOthers(new Map())
    assert.deepEqual(mark.barred(labels), [])
  })
})

it('a key is read as it is written', () => {
  const step = fc.oneof(fc.stringMatching(/^[A-Za-z0-9_-]+$/), fc.string({ minLength: 1 }))
  fc.assert(fc.property(fc.array(step, { minLength: 1 }), (path) => assert.deepEqual(parseKey(formatPath(path)), path)))
  for (const text of ['', '.', 'a.', '.a', 'a..b', 'a b', '"a']) assert.equal(parseKey(text), undefined, text)
})
