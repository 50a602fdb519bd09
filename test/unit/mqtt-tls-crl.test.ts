import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { revokedSerials } from '../../adapters/mqtt/tls-crl.ts'
import { authority } from '../contract/mqtt-listen-kit.ts'

test('the serials of a list that openssl made, and none of an empty list', async (t) => {
  const ca = await authority(t)
  assert.deepEqual([...revokedSerials(await readFile(await ca.revoke()))], [])
  const files = await Promise.all(['a', 'b', 'c'].map((name) => ca.issue(name, name)))
  const serials = await Promise.all(files.map(async ({ certFile }) => new X509Certificate(await readFile(certFile)).serialNumber))
  const list = revokedSerials(await readFile(await ca.revoke(files[0]?.certFile ?? '', files[2]?.certFile ?? '')))
  assert.deepEqual([...list].sort(), [serials[0], serials[2]].sort())
})

test('what is no revocation list is refused, whatever it is', () => {
  assert.throws(() => revokedSerials(Buffer.from('hello')), /no PEM revocation list/)
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 60 }), (der) => {
      const pem = `-----BEGIN X509 CRL-----\n${Buffer.from(der).toString('base64')}\n-----END X509 CRL-----`
      try {
        for (const serial of revokedSerials(Buffer.from(pem))) assert.match(serial, /^[0-9A-F]*$/)
      } catch (error) {
        assert.match(String(error), /revocation list is malformed/)
      }
    }),
  )
})
