import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { it } from 'node:test'
import { generate } from 'mqtt-packet'
import '../../adapters/mqtt/packet-numbers.ts'

it('mqtt-packet writes packet ids without a buffer kept for each', () => {
  const numbers = createRequire(import.meta.url)('mqtt-packet/numbers') as { readonly cache: object }
  assert.equal(generate({ cmd: 'suback', messageId: 0x1234, granted: [1] }).toString('hex'), '9003123401')
  assert.equal(generate({ cmd: 'puback', messageId: 65_535 }).toString('hex'), '4002ffff')
  assert.deepEqual(Object.keys(numbers.cache), [])
})
