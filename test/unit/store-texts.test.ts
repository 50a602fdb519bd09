import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { textOf } from '../../store/texts.ts'

describe('texts by their bytes', () => {
  it('are what UTF-8 says, however often they come and whatever else has their place', () => {
    const text = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 40 }),
      fc.constantFrom('', 'x'.repeat(96), 'x'.repeat(97), 'devices/pump-7/logs/app'),
    )
    const bytes = fc.oneof(
      text.map((value) => Buffer.from(value)),
      fc.uint8Array({ maxLength: 120 }).map((value) => Buffer.from(value)),
    )
    fc.assert(
      fc.property(fc.array(bytes, { minLength: 1, maxLength: 30 }), fc.nat(5), (all, before) => {
        for (const part of [...all, ...all]) {
          const held = Buffer.concat([Buffer.alloc(before, 0xc3), part, Buffer.from('behind')])
          assert.equal(textOf(held, before, before + part.length), part.toString('utf8'))
        }
      }),
    )
  })

  it('outlive the bytes that they were read from', () => {
    const held = Buffer.from('devices/pump-8/logs/app')
    assert.equal(textOf(held, 0, held.length), 'devices/pump-8/logs/app')
    held.fill(0x79)
    assert.equal(textOf(Buffer.from('devices/pump-8/logs/app'), 0, 23), 'devices/pump-8/logs/app')
  })

  it('of more names than it holds stay right', () => {
    for (let round = 0; round < 2; round += 1) {
      for (let index = 0; index < 10_000; index += 1) {
        const name = `device-${index}`
        assert.equal(textOf(Buffer.from(name), 0, name.length), name)
      }
    }
  })
})
