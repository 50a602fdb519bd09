const SEED = 0x9747b28c
const MIX = 0x5bd1e995

/** The 32-bit hash of `org.apache.kafka.common.utils.Utils.murmur2`, as a signed number. */
export function murmur2(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const whole = bytes.length & ~3
  let hash = SEED ^ bytes.length
  for (let at = 0; at < whole; at += 4) {
    let word = Math.imul(view.getInt32(at, true), MIX)
    word ^= word >>> 24
    hash = Math.imul(hash, MIX) ^ Math.imul(word, MIX)
  }
  return finish(mixTail(hash, bytes, whole))
}

function mixTail(hash: number, bytes: Uint8Array, from: number): number {
  if (from === bytes.length) return hash
  let tail = 0
  for (let at = bytes.length - 1; at >= from; at -= 1) tail = (tail << 8) | (bytes[at] ?? 0)
  return Math.imul(hash ^ tail, MIX)
}

function finish(hash: number): number {
  const mixed = Math.imul(hash ^ (hash >>> 13), MIX)
  return mixed ^ (mixed >>> 15)
}

/** The partition that Java's default partitioner gives to a record with this key. */
export function partitionFor(key: string, partitions: number): number {
  return (murmur2(Buffer.from(key)) & 0x7fffffff) % partitions
}
