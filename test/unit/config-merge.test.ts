import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Json, mergePatch, valueAt } from '../../config/merge.ts'

/** RFC 7396, appendix A: original, patch, result. */
const RFC_EXAMPLES: readonly (readonly [string, string, string])[] = [
  ['{"a":"b"}', '{"a":"c"}', '{"a":"c"}'],
  ['{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'],
  ['{"a":"b"}', '{"a":null}', '{}'],
  ['{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'],
  ['{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'],
  ['{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'],
  ['{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'],
  ['{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'],
  ['["a","b"]', '["c","d"]', '["c","d"]'],
  ['{"a":"b"}', '["c"]', '["c"]'],
  ['{"a":"foo"}', 'null', 'null'],
  ['{"a":"foo"}', '"bar"', '"bar"'],
  ['{"e":null}', '{"a":1}', '{"e":null,"a":1}'],
  ['[1,2]', '{"a":"b","c":null}', '{"a":"b"}'],
  ['{}', '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'],
]

const json = (): fc.Arbitrary<Json> => fc.jsonValue({ maxDepth: 4 }) as fc.Arbitrary<Json>
/** Key order is no part of the meaning. */
const same = (a: Json, b: Json): void => {
  assert.deepEqual(JSON.parse(JSON.stringify(a)), JSON.parse(JSON.stringify(b)))
}

for (const [original, patch, result] of RFC_EXAMPLES) {
  test(`RFC 7396: ${original} patched with ${patch} is ${result}`, () => {
    same(mergePatch(JSON.parse(original) as Json, JSON.parse(patch) as Json), JSON.parse(result) as Json)
  })
}

test('a patch applied twice is a patch applied once', () => {
  fc.assert(
    fc.property(json(), json(), (target, patch) => {
      const once = mergePatch(target, patch)
      same(mergePatch(once, patch), once)
    }),
  )
})

test('neither argument is changed', () => {
  fc.assert(
    fc.property(json(), json(), (target, patch) => {
      const before = JSON.stringify([target, patch])
      mergePatch(target, patch)
      assert.equal(JSON.stringify([target, patch]), before)
    }),
  )
})

test('every value of a patch without null stands in the result, and null removes', () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), json()),
      fc.dictionary(fc.string(), fc.oneof(fc.constant(null), fc.string())),
      (target, patch) => {
        const merged = mergePatch(target, patch)
        for (const [key, value] of Object.entries(patch)) assert.equal(valueAt(merged, [key]), value === null ? undefined : value)
        for (const key of Object.keys(target)) if (!Object.hasOwn(patch, key)) assert.ok(valueAt(merged, [key]) !== undefined)
      },
    ),
  )
})

test('a key named __proto__ is a key like any other and reaches no prototype', () => {
  const merged = mergePatch({}, JSON.parse('{"__proto__":{"polluted":true},"a":{"__proto__":{"polluted":true}}}') as Json)
  assert.equal(({} as Record<string, unknown>)['polluted'], undefined)
  assert.deepEqual(Object.keys(merged as object), ['__proto__', 'a'])
})
