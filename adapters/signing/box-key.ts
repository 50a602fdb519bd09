import { sign } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { join } from 'node:path'
import { GatewayError, messageOf } from '../../daemon/errors.ts'
import { type BoxKey, RECORD_TYPE, type VerifiedRecord } from '../../daemon/patch/signing.ts'
import { pae } from './dsse.ts'
import { createPrivateKeyAtomically, readPrivateKey } from './files.ts'
import { canonicalBase64, isSigned, publicKeyOf, publicTextOf } from './keys.ts'

const RECORD_BYTES_MAX = 64 * 1024
/** What stands behind the last member: 64 bytes are 86 characters and two of padding. */
const TAIL = /^,"signature":"([A-Za-z0-9+/]{86}==)"\}$/
const TAIL_BYTES = ',"signature":""}'.length + 88

/**
 * The key in `<dataDir>/identity.key`, made at the first call. Throws a `fatal` error when the file is damaged: a new
 * key would make this box a stranger to its fleet, so that a person decides.
 */
export function openBoxKey(dataDir: string): BoxKey {
  const path = join(dataDir, 'identity.key')
  try {
    return new FileBoxKey(readPrivateKey(path) ?? createPrivateKeyAtomically(path))
  } catch (error) {
    throw new GatewayError('fatal', `the identity of this box can't be used: ${messageOf(error)}`, {
      remedy: `put ${path} back from a backup; or remove it, and let an operator run: edgectl fleet release with the id of this box`,
      cause: error,
    })
  }
}

class FileBoxKey implements BoxKey {
  readonly publicKey: string
  readonly #key: KeyObject

  constructor(key: KeyObject) {
    this.#key = key
    this.publicKey = publicTextOf(key)
  }

  signRecord(record: object): Uint8Array {
    const text = JSON.stringify(record)
    if (Object.keys(record).length === 0 || 'signature' in record) throw new Error('a record to sign has members, and no signature yet')
    const signature = sign(null, pae(RECORD_TYPE, Buffer.from(text)), this.#key).toString('base64')
    return Buffer.from(`${text.slice(0, -1)},"signature":"${signature}"}`)
  }

  verifyRecord(bytes: Uint8Array, publicKey: string): VerifiedRecord {
    return verifyRecord(bytes, publicKey)
  }
}

/** Whoever looks at records needs no key of its own. Never throws. */
export function verifyRecord(bytes: Uint8Array, publicKey: string): VerifiedRecord {
  if (bytes.length > RECORD_BYTES_MAX) return { refused: `${bytes.length} bytes are too many for a record; at most ${RECORD_BYTES_MAX}` }
  const value = Buffer.from(bytes)
  const cut = value.length - TAIL_BYTES
  const signature = canonicalBase64(cut > 0 ? TAIL.exec(value.toString('latin1', cut))?.[1] : undefined, 64)
  if (signature === undefined) return { refused: 'the record does not end with a signature' }
  const key = publicKeyOf(publicKey)
  if (key === undefined) return { refused: 'the public key of the box cannot be read' }
  const body = Buffer.concat([value.subarray(0, cut), Buffer.from('}')])
  if (!isSigned(pae(RECORD_TYPE, body), signature, key))
    return { refused: 'the signature of the record does not fit: it was changed, or another box wrote it' }
  try {
    return { record: JSON.parse(body.toString('utf8')) as unknown }
  } catch (error) {
    return { refused: `the signed record is no JSON: ${messageOf(error)}` }
  }
}
