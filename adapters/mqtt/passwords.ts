import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'

const deriveKey = promisify(pbkdf2)

/** A hash as mosquitto_passwd writes it: `$6$` is SHA-512 of password and salt, `$7$` PBKDF2 with SHA-512. */
export interface PasswordHash {
  readonly iterations: number | undefined
  readonly salt: Buffer
  readonly hash: Buffer
  /** The line's right side: two equal texts are the same password of the same day. */
  readonly text: string
}

export type PasswordFile = ReadonlyMap<string, PasswordHash>

/** More would let one connect occupy a core for a second. */
const ITERATIONS_MAX = 1_000_000
const BYTES_SHA512 = 64
/** libuv's pool has four threads, and files and DNS need some. */
const HASHES_AT_ONCE = 2
/** A reconnect storm of a whole plant proves each password once. */
const PROOF_MS = 60_000
const PROOFS_MAX = 50_000

/**
 * Throws with the line number and what to do when a line can't be used; such a file is not used in part. Nothing of the
 * line is repeated: whoever can set this path, by a patch for example, must not read other files of the box by it.
 */
export function parsePasswordFile(content: Buffer): PasswordFile {
  const users = new Map<string, PasswordHash>()
  for (const [i, raw] of content.toString('utf8').split('\n').entries()) {
    const line = raw.replace(/\r$/, '')
    if (line.trim() === '' || line.startsWith('#')) continue
    const colon = line.indexOf(':')
    const fail = (why: string): never => {
      throw new Error(`line ${i + 1}: ${why}`)
    }
    if (colon <= 0) fail('expected user:hash, as mosquitto_passwd writes it')
    const user = line.slice(0, colon)
    if (users.has(user)) fail('its user appears twice')
    users.set(
      user,
      parseHash(line.slice(colon + 1)) ??
        fail('its password is not hashed as mosquitto_passwd does; run mosquitto_passwd -U on a copy of the file'),
    )
  }
  return users
}

/** As many as a small board does in some 10 ms: a whole plant that reconnects proves each password once a minute. */
const ITERATIONS = 5_000
/** mosquitto before 2.0 takes salts of this length only. */
const SALT_BYTES = 12

/** The right side of a line for this password: PBKDF2 with SHA-512, as mosquitto_passwd writes it. */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES)
  const hash = await deriveKey(password, salt, ITERATIONS, BYTES_SHA512, 'sha512')
  return `$7$${ITERATIONS}$${salt.toString('base64')}$${hash.toString('base64')}`
}

/** The file with this user's hash replaced, added at the end, or (without a hash) removed; other lines stay as they are. */
export function withPassword(text: string, user: string, hash: string | undefined): string {
  const lines = text.split('\n').filter((line, index, all) => line !== '' || index < all.length - 1)
  const at = lines.findIndex((line) => line.startsWith(`${user}:`))
  const own = hash === undefined ? [] : [`${user}:${hash}`]
  if (at >= 0) lines.splice(at, 1, ...own)
  else lines.push(...own)
  return lines.map((line) => `${line}\n`).join('')
}

function parseHash(text: string): PasswordHash | undefined {
  const [, kind, ...fields] = text.split('$')
  const [salt, hash] = fields.slice(-2).map((field) => Buffer.from(field, 'base64'))
  if (salt === undefined || hash?.length !== BYTES_SHA512) return undefined
  if (kind === '6' && fields.length === 2) return { iterations: undefined, salt, hash, text }
  const iterations = Number(fields[0])
  if (kind !== '7' || fields.length !== 3 || !Number.isInteger(iterations) || iterations < 1 || iterations > ITERATIONS_MAX)
    return undefined
  return { iterations, salt, hash, text }
}

async function matches(hash: PasswordHash, password: Buffer): Promise<boolean> {
  const made =
    hash.iterations === undefined
      ? createHash('sha512').update(password).update(hash.salt).digest()
      : await deriveKey(password, hash.salt, hash.iterations, BYTES_SHA512, 'sha512')
  return timingSafeEqual(made, hash.hash)
}

interface Proof {
  readonly text: string
  readonly untilMs: number
}

/**
 * Verifies passwords off the event loop, two at a time, and remembers for a minute what it has verified (a keyed
 * digest of user and password; a changed hash is another password).
 */
export class PasswordVerifier {
  readonly #nowMs: () => number
  readonly #key = randomBytes(32)
  readonly #proofs = new Map<string, Proof>()
  readonly #waiting: (() => void)[] = []
  #running = 0

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  /** The hash that the password matched; `undefined` for an unknown user or a wrong password. */
  async verify(file: PasswordFile, user: string, password: Buffer): Promise<PasswordHash | undefined> {
    const hash = file.get(user)
    const id = createHmac('sha256', this.#key).update(user).update('\0').update(password).digest('base64')
    const proof = this.#proofs.get(id)
    if (hash !== undefined && proof?.text === hash.text && proof.untilMs > this.#nowMs()) return hash
    // An unknown user costs the same time, or the answer's delay would name the known ones.
    const subject = hash ?? decoyOf(file)
    const matched = subject !== undefined && (await this.#inTurn(() => matches(subject, password)))
    if (!matched || hash === undefined) return undefined
    this.#remember(id, hash.text)
    return hash
  }

  #remember(id: string, text: string): void {
    this.#proofs.delete(id)
    this.#proofs.set(id, { text, untilMs: this.#nowMs() + PROOF_MS })
    if (this.#proofs.size <= PROOFS_MAX) return
    const oldest = this.#proofs.keys().next()
    if (oldest.done !== true) this.#proofs.delete(oldest.value)
  }

  async #inTurn<T>(run: () => Promise<T>): Promise<T> {
    if (this.#running >= HASHES_AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    else this.#running++
    try {
      return await run()
    } finally {
      // The turn passes on without being given up, so that nobody overtakes who waits.
      const next = this.#waiting.shift()
      if (next === undefined) this.#running--
      else next()
    }
  }
}

function decoyOf(file: PasswordFile): PasswordHash | undefined {
  const first = file.values().next()
  return first.done === true ? undefined : first.value
}
