import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { ImportFolder, type ImportNote } from '../../daemon/compose/imports/folder.ts'

let dataDir: string

beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'import-folder-'))
})

afterEach(() => rmSync(dataDir, { recursive: true, force: true }))

const noteFrom = (gateway: string): ImportNote => ({
  ...{ schema: 1, id: '0123456789abcdef', gateway, prefix: 'edge', topic: undefined, allowedTopics: [] },
  ...{ importedAt: '2026-11-24T12:00:00.000Z', messages: 1 },
})

function accepted(note: ImportNote): ImportFolder {
  const folder = new ImportFolder(dataDir)
  folder.build('fedcba9876543210', 0, 0)
  folder.accept('fedcba9876543210', note)
  return folder
}

// A box may be called anything that begins with a letter or a digit.
for (const gateway of ['gw-7', 'building-7', 'removing-7'])
  test(`an import of ${gateway} is still there after a restart`, () => {
    accepted(noteFrom(gateway))
    const told: string[] = []
    const found = new ImportFolder(dataDir).open((text) => told.push(text))
    assert.deepEqual(
      found.map((note) => note.gateway),
      [gateway],
    )
    assert.deepEqual(told, [])
  })

test('what was begun and not finished, or not quite removed, is gone after a restart', () => {
  const begun = new ImportFolder(dataDir)
  const path = begun.build('fedcba9876543210', 0, 0)
  assert.deepEqual(new ImportFolder(dataDir).open(assert.fail), [])
  assert.throws(() => begun.accept('fedcba9876543210', noteFrom('gw-7')), path)
})
