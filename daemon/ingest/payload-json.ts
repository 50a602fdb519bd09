/**
 * Single values out of JSON payloads, by JSON pointer (RFC 6901).
 */
import { GatewayError } from '../errors.ts'

export interface JsonPointer {
  readonly text: string
  /** Unescaped; at least one. */
  readonly tokens: readonly string[]
}

/** `setting` names the key for the message. Throws a `rejected` GatewayError. */
export function parsePointer(text: string, setting: string): JsonPointer {
  if (!/^(\/([^~/]|~[01])+)+$/.test(text)) {
    throw new GatewayError('rejected', `${setting}: "${text}" is no JSON pointer to a member.`, {
      remedy: 'Write json: and a path that begins with a slash, as in json:/level or json:/log/level (RFC 6901).',
    })
  }
  return {
    text,
    tokens: text
      .slice(1)
      .split('/')
      .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~')),
  }
}

/** The payload of one delivery, parsed at most once however many values are asked for. */
export class JsonPayload {
  #bytes: Buffer = EMPTY
  #parsed = false
  #value: unknown

  turnTo(payload: Uint8Array): void {
    this.#bytes = Buffer.isBuffer(payload) ? payload : Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
    this.#parsed = false
    this.#value = undefined
  }

  get bytes(): Buffer {
    return this.#bytes
  }

  /** Undefined when the payload is no JSON, or has nothing there. */
  at(pointer: JsonPointer): unknown {
    let value = this.#whole()
    for (const token of pointer.tokens) {
      if (typeof value !== 'object' || value === null || !Object.hasOwn(value, token)) return undefined
      value = (value as Record<string, unknown>)[token]
    }
    return value
  }

  #whole(): unknown {
    if (!this.#parsed) {
      this.#parsed = true
      this.#value = parseObject(this.#bytes)
    }
    return this.#value
  }
}

const EMPTY = Buffer.alloc(0)

function parseObject(bytes: Buffer): unknown {
  const first = bytes[skipSpace(bytes, 0)]
  if (first !== 0x7b && first !== 0x5b) return undefined
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch {
    // Most logs are no JSON, and need not be: that is an answer, not a fault.
    return undefined
  }
}

/** Index of the first byte at or after `at` that is no JSON white space. */
export function skipSpace(bytes: Uint8Array, at: number): number {
  let index = at
  for (let byte = bytes[index]; byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09; byte = bytes[index]) index++
  return index
}
