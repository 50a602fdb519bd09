/** Slows down who guesses passwords, by address and over all, without locking the technician out. */

const FREE = 3
const WAIT_MAX_MS = 60_000
/** Failures of an address are forgotten after this time without one. */
const FORGET_MS = 15 * 60_000
const ADDRESSES_MAX = 2_000
/** Over all addresses that have not logged in before: what an owner of many addresses gets. */
const OVERALL_BURST = 30
const OVERALL_PER_SECOND = 1

interface Record {
  failures: number
  lastMs: number
  /** It has known a password: the bound over all does not concern it. */
  trusted: boolean
}

export class Attempts {
  readonly #nowMs: () => number
  readonly #addresses = new Map<string, Record>()
  #tokens = OVERALL_BURST
  #filledMs = 0

  /** `nowMs` is monotonic. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  /** ms until this address may try; 0 takes the attempt, which counts as failed until `succeeded` is called. */
  take(address: string): number {
    const now = this.#nowMs()
    const key = networkOf(address)
    const known = this.#addresses.get(key)
    const record =
      known === undefined || now - known.lastMs > FORGET_MS ? { failures: 0, lastMs: now, trusted: known?.trusted ?? false } : known
    const wait = record.failures < FREE ? 0 : Math.min(WAIT_MAX_MS, 1_000 * 2 ** (record.failures - FREE)) - (now - record.lastMs)
    if (wait > 0) return wait
    if (!record.trusted && !this.#spend(now)) return 1_000 / OVERALL_PER_SECOND
    record.failures += 1
    record.lastMs = now
    this.#keep(key, record)
    return 0
  }

  succeeded(address: string): void {
    this.#keep(networkOf(address), { failures: 0, lastMs: this.#nowMs(), trusted: true })
  }

  #spend(now: number): boolean {
    this.#tokens = Math.min(OVERALL_BURST, this.#tokens + ((now - this.#filledMs) * OVERALL_PER_SECOND) / 1_000)
    this.#filledMs = now
    if (this.#tokens < 1) return false
    this.#tokens -= 1
    return true
  }

  #keep(key: string, record: Record): void {
    this.#addresses.delete(key)
    this.#addresses.set(key, record)
    const [oldest] = this.#addresses.keys()
    if (this.#addresses.size > ADDRESSES_MAX && oldest !== undefined) this.#addresses.delete(oldest)
  }
}

/** One household has a /64 of IPv6 (RFC 6177), and would otherwise have as many tries as it has addresses. */
function networkOf(address: string): string {
  if (!address.includes(':') || address.startsWith('::ffff:')) return address
  const [head = ''] = address.split('%')
  const [left = '', right] = head.split('::')
  const groups = left === '' ? [] : left.split(':')
  const missing = right === undefined ? 0 : 8 - groups.length - (right === '' ? 0 : right.split(':').length)
  return [...groups, ...Array.from({ length: Math.max(0, missing) }, () => '0')].slice(0, 4).join(':')
}
