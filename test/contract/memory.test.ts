/** The box's memory for patches: one suite for the fake and for `state.db`. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { TestContext } from 'node:test'
import fc from 'fast-check'
import type { Json, Memory, MemoryChanges } from '../../daemon/patch/memory.ts'
import { FakeMemory } from '../fakes/patch-memory.ts'
import { StoreRig } from '../fakes/store-rig.ts'

const MAKERS: Record<string, (context: TestContext) => Promise<Memory>> = {
  fake: () => Promise.resolve(new FakeMemory()),
  'state.db': async (context) => (await new StoreRig().start(context)).outbox.memory,
}

const keys = fc.constantFrom('a', 'a/', 'a/b', 'a/b/c', 'ab/c', 'hold', 'history/000000000001', 'history/000000000010')
const values = fc.option(fc.jsonValue() as fc.Arbitrary<Json>, { nil: undefined })
const changes = fc.dictionary(keys, values, { maxKeys: 4 }) as fc.Arbitrary<MemoryChanges>

for (const [name, make] of Object.entries(MAKERS)) {
  describe(`memory: ${name}`, () => {
    test('what is written is read below its prefix, in the order of the keys, and nothing else', async (t) => {
      const memory = await make(t)
      await memory.write({ 'b/2': { deep: [1, null, 'ü'] }, 'b/10': 10, a: 'x', 'b/1': false, ba: 0 })
      assert.deepEqual([...(await memory.read('b/'))], [['b/1', false], ['b/10', 10], ['b/2', { deep: [1, null, 'ü'] }]]) // prettier-ignore
      assert.deepEqual([...(await memory.read('c'))], [])
      assert.equal((await memory.read('')).size, 5)
    })

    test('any order of writes leaves what the last ones said', async (t) => {
      const memory = await make(t)
      const model = new Map<string, Json>()
      const run = fc.asyncProperty(fc.array(changes, { maxLength: 5 }), async (writes) => {
        for (const write of writes) {
          await memory.write(write)
          for (const [key, value] of Object.entries(write)) {
            if (value === undefined) model.delete(key)
            else model.set(key, JSON.parse(JSON.stringify(value)) as Json)
          }
        }
        for (const prefix of ['', 'a', 'a/', 'history/']) {
          const expected = [...model].filter(([key]) => key.startsWith(prefix)).sort(([a], [b]) => (a < b ? -1 : 1))
          assert.deepEqual([...(await memory.read(prefix))], expected)
        }
      })
      await fc.assert(run, { numRuns: 30 })
    })
  })
}
