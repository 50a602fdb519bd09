import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseAclFile } from '../../adapters/mqtt/acl.ts'

const list = (...lines: string[]): ReturnType<typeof parseAclFile> => parseAclFile(Buffer.from(lines.join('\n')))
const al = { username: 'al', clientId: 'c1' }
const bo = { username: 'bo', clientId: 'c2' }

test('rules of a user, patterns for all, deny before all, nothing without a rule', () => {
  const acl = list(
    '# comment',
    'topic write anonymous/only',
    'user al',
    'topic write a/+/logs/#',
    'topic deny a/secret/#',
    'topic read config',
    'user bo',
    'topic both',
    'pattern write devices/%u/#',
    'pattern readwrite ids/%c',
  )
  const may = (subject: typeof al, topic: string): boolean => acl.mayPublish(subject, topic)
  assert.deepEqual(
    ['a/x/logs', 'a/x/logs/y/z', 'devices/al/q', 'ids/c1'].map((topic) => may(al, topic)),
    [true, true, true, true],
  )
  assert.deepEqual(
    ['a/secret/logs/y', 'a/x', 'config', 'both', 'devices/bo/q', 'ids/c2', 'anonymous/only', ''].map((topic) => may(al, topic)),
    Array(8).fill(false),
  )
  assert.deepEqual([may(bo, 'both'), may(bo, 'a/x/logs'), may({ username: 'eve', clientId: 'c3' }, 'devices/eve/q')], [true, false, true])
})

test('a filter is granted only by a rule that covers it, and refused by a deny that it reaches', () => {
  const acl = list('user al', 'topic read config/#', 'topic deny config/secret/#', 'topic read one/+/x')
  const may = (filter: string): boolean => acl.maySubscribe(al, filter)
  assert.deepEqual(['config/a', 'config/a/b', 'one/+/x', 'one/y/x'].map(may), [true, true, true, true])
  assert.deepEqual(['#', 'config/#', 'config/+/x', '+/a', 'config/secret/a', 'one/#', 'other'].map(may), Array(7).fill(false))
})

test('a name can not widen a pattern: it is one level, and never a wildcard', () => {
  const acl = list('pattern write devices/%u/#')
  fc.assert(
    fc.property(fc.string(), fc.string(), (username, other) => {
      fc.pre(username !== other)
      assert.equal(
        acl.mayPublish({ username, clientId: 'c' }, `devices/${other}/x`),
        !username.includes('/') && other.split('/')[0] === username,
      )
    }),
  )
  for (const username of ['+', '#', 'a/b', 'al/+']) assert.equal(acl.mayPublish({ username, clientId: 'c' }, 'devices/bo/x'), false)
})

test('$ topics are not covered by a leading wildcard; %u in a topic line is no placeholder', () => {
  const acl = list('user al', 'topic #', 'topic x/%u')
  assert.deepEqual(
    ['$SYS/broker', 'a'].map((topic) => acl.mayPublish(al, topic)),
    [false, true],
  )
  const literal = list('user al', 'topic x/%u')
  assert.deepEqual(
    ['x/al', 'x/%u'].map((topic) => literal.mayPublish(al, topic)),
    [false, true],
  )
})

test('a line that is no rule names itself', () => {
  assert.throws(() => list('user al', 'topics write x'), /line 2: expected "user NAME"/)
  assert.throws(() => list('topic'), /line 1/)
})

test('for other devices speaks only who has a rule of its own for it: a pattern holds for all', () => {
  const acl = list(
    'user admin',
    'topic write devices/#',
    'topic deny devices/safe/#',
    'topic read status/#',
    'pattern write devices/%c/#',
    'pattern write shared/#',
  )
  const may = (username: string, topic: string): boolean => acl.mayPublishForOthers({ username, clientId: 'bo' }, topic)
  assert.deepEqual(
    ['devices/bo/x', 'devices/safe/x', 'status/x', 'shared/x'].map((topic) => may('admin', topic)),
    [true, false, false, false],
  )
  assert.deepEqual(
    ['devices/bo/x', 'shared/x'].map((topic) => may('al', topic)),
    [false, false],
  )
})
