import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { editConfig } from '../../config/edit.ts'
import { parseFragment } from '../../config/fragment.ts'
import { valueAt } from '../../config/merge.ts'

test('a value is set, added and removed; comments and other keys stay', () => {
  const text = '# ours\ngateway: { id: gw-1 } # the first\nkafka:\netcd:\n  endpoints: [a] # old\n  prefix: /x/\n'
  const edited = editConfig(text, [
    { path: ['kafka', 'brokers'], value: ['k:9092'] },
    { path: ['etcd', 'endpoints'], value: undefined },
    { path: ['page', 'listen'], value: 'off' },
    { path: ['nothing', 'here'], value: undefined },
  ])
  assert.equal(
    edited,
    '# ours\ngateway: { id: gw-1 } # the first\nkafka:\n  brokers:\n    - k:9092\netcd:\n  prefix: /x/\npage:\n  listen: off\n',
  )
})

test('an empty file, and one of comments only, become a map', () => {
  for (const text of ['', '# nothing yet\n'])
    assert.match(editConfig(text, [{ path: ['gateway', 'id'], value: 'gw-1' }]), /^(# nothing yet\n+)?gateway:\n {2}id: gw-1\n$/)
})

test('what stands for something else is not written through', () => {
  const text = 'a: &x { b: 1 }\nkafka: *x\n'
  assert.throws(() => editConfig(text, [{ path: ['kafka', 'topic'], value: 't' }]), /kafka stands for what is written elsewhere \(\*x\)/)
})

test('whatever the text of a value, it is read back as it was, and never as a variable', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (value) => {
      const edited = editConfig('a: { b: c }\n', [{ path: ['a', 'd'], value: `\${HOME}${value}` }])
      const { fragment, problems } = parseFragment('f', edited, { HOME: '/wrong' })
      assert.deepEqual(problems, [])
      assert.equal(valueAt(fragment?.value, ['a', 'd']), `\${HOME}${value}`)
      assert.equal(valueAt(fragment?.value, ['a', 'b']), 'c')
    }),
  )
})
