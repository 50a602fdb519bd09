import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Settings } from '../../config/settings.ts'
import { remedyFor } from '../../daemon/compose/imports/remedy.ts'
import type { ImportNote } from '../../daemon/compose/imports/folder.ts'

const NOTE: ImportNote = {
  ...{ schema: 1, id: 'f'.repeat(16), gateway: 'gw-7', prefix: 'edge', topic: 'logs', allowedTopics: ['logs'] },
  ...{ importedAt: '2026-11-24T10:00:00.000Z', messages: 1, bytes: 1 },
}
const GRANT = 'Grant the right: `edgectl kafka setup --print` shows all that are needed.'

function here(prefix: string, allowedTopics: readonly string[]): Settings {
  return { kafka: { prefix, allowedTopics } } as unknown as Settings
}

test('rights of an import are those of the box that it came from, with its names where they are others', () => {
  assert.equal(
    remedyFor(NOTE, here('edge', ['logs', 'more']), GRANT),
    'Grant the right: `edgectl kafka setup --print --import-for gw-7` shows all that are needed.',
  )
  assert.match(remedyFor(NOTE, here('edge', ['other']), GRANT), /--import-for gw-7 --topic logs` shows/)
  assert.match(remedyFor(NOTE, here('mine', ['logs']), GRANT), /--import-for gw-7 --prefix edge` shows/)
})

test('topics that are missing are those of the other box: what makes ours is no remedy', () => {
  const setup = 'Run `edgectl kafka setup`, or `edgectl kafka setup --print` and have the commands run.'
  assert.match(remedyFor(NOTE, here('edge', ['logs']), setup), /^Run `edgectl kafka setup` on gw-7/)
})
