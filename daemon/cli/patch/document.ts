/** A patch in a file: written by a person, or signed already. */
import { readFileSync } from 'node:fs'
import { type Envelope, readEnvelope } from '../../../adapters/signing/dsse.ts'
import type { Patch } from '../../../config/patch/document.ts'
import { PAYLOAD_BYTES_MAX, parsePatchPayload, parsePatchText, type WrittenPatch } from '../../../config/patch/parse.ts'
import { ConfigError } from '../../../config/problem.ts'
import { GatewayError, messageOf } from '../../errors.ts'
import { PATCH_TYPE } from '../../patch/records.ts'

export interface PatchFile {
  readonly patch: Patch
  /** What is or will be signed. */
  readonly payload: Uint8Array
  /** Of a file that is signed already; its signatures were not verified. */
  readonly envelope: Envelope | undefined
  /** Of a file that a person wrote. */
  readonly written: WrittenPatch | undefined
}

/** `rejected` when the file can't be read; a ConfigError with every problem when it is no valid patch. */
export function readPatchFile(path: string): PatchFile {
  const bytes = readBytes(path)
  const text = bytes.toString('utf8')
  if (/^\s*\{/.test(text) && text.includes('"payloadType"')) return readSigned(path, Buffer.from(text.trim()))
  const written = parsePatchText(path, text)
  const payload = Buffer.from(JSON.stringify(written.value))
  if (payload.length > PAYLOAD_BYTES_MAX)
    throw new GatewayError('rejected', `${path} is too big: ${payload.length} bytes as JSON; at most ${PAYLOAD_BYTES_MAX}`)
  return { patch: written.patch, payload, envelope: undefined, written }
}

function readSigned(path: string, bytes: Buffer): PatchFile {
  const envelope = readEnvelope(bytes)
  if (typeof envelope === 'string') throw new GatewayError('rejected', `${path}: ${envelope}`)
  if (envelope.type !== PATCH_TYPE) throw new GatewayError('rejected', `${path} holds ${JSON.stringify(envelope.type)}, no patch`)
  return { patch: parsedPayload(path, envelope.payload), payload: envelope.payload, envelope, written: undefined }
}

function parsedPayload(path: string, payload: Uint8Array): Patch {
  try {
    return parsePatchPayload(payload)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    throw new ConfigError(error.problems.map((problem) => ({ ...problem, origin: { source: path } })))
  }
}

function readBytes(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    throw new GatewayError('rejected', `the patch ${path} can't be read: ${messageOf(error)}`, { cause: error })
  }
}
