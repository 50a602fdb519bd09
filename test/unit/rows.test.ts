import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { it } from 'node:test'
import { fileURLToPath } from 'node:url'

const TESTS = fileURLToPath(new URL('..', import.meta.url))
/** Failures that users of such systems have met; `test/README.md` lists them. */
const ROWS = { log: 32, patch: 27 } as const

function titles(): string {
  const files = readdirSync(TESTS, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.test.ts'))
  return files.map((name) => readFileSync(`${TESTS}/${name}`, 'utf8')).join('\n')
}

for (const path of ['log', 'patch'] as const) {
  it(`every row of the list of known failures of the ${path} path is named by a test`, () => {
    // A title may name several, with commas between.
    const lists = [...titles().matchAll(new RegExp(`${path} path (\\d+(?:, \\d+)*)`, 'g'))].map((match) => match[1] ?? '')
    const named = new Set(lists.flatMap((list) => list.split(', ').map(Number)))
    const missing = Array.from({ length: ROWS[path] }, (_, index) => index + 1).filter((row) => !named.has(row))
    assert.deepEqual(missing, [])
  })
}
