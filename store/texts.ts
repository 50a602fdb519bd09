/**
 * Texts that come again and again, such as the names of devices and their topics: decoded once, then found by their
 * bytes. At 10,000 messages a second, three texts each, they were most of the strings in memory.
 */
const SLOTS = 1 << 11
/** Longer ones are rare, and not worth the comparison. */
const MAX_BYTES = 96

interface Known {
  readonly bytes: Buffer
  readonly text: string
}

const slots: (Known | undefined)[] = Array.from({ length: SLOTS }, () => undefined)

/** UTF-8 of `bytes` from `from` up to `to`. A text takes the place of another one with the same hash. */
export function textOf(bytes: Buffer, from: number, to: number): string {
  const length = to - from
  if (length === 0) return ''
  if (length > MAX_BYTES) return bytes.toString('utf8', from, to)
  let hash = length
  for (let at = from; at < to; at++) hash = (Math.imul(hash, 31) + (bytes[at] ?? 0)) | 0
  const slot = (hash ^ (hash >>> 15)) & (SLOTS - 1)
  const known = slots[slot]
  if (known !== undefined && isSame(known.bytes, bytes, from, length)) return known.text
  const text = bytes.toString('utf8', from, to)
  slots[slot] = { bytes: Buffer.from(bytes.subarray(from, to)), text }
  return text
}

/** A loop: a call into C++ costs more for so few bytes. */
function isSame(known: Buffer, bytes: Buffer, from: number, length: number): boolean {
  if (known.length !== length) return false
  for (let at = 0; at < length; at++) if (known[at] !== bytes[from + at]) return false
  return true
}
