import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { it } from 'node:test'
import { fileURLToPath } from 'node:url'

const TESTS = fileURLToPath(new URL('..', import.meta.url))
/** Failures that users of such systems have met; `test/README.md` lists them. */
const ROWS = 32

it('every row of the list of known failures is named by a test', () => {
  const files = readdirSync(TESTS, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.test.ts'))
  const text = files.map((name) => readFileSync(`${TESTS}/${name}`, 'utf8')).join('\n')
  const named = new Set([...text.matchAll(/log path (\d+)/g)].map((match) => Number(match[1])))
  const missing = Array.from({ length: ROWS }, (_, index) => index + 1).filter((row) => !named.has(row))
  assert.deepEqual(missing, [])
})
