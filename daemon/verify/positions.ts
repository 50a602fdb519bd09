/** Which positions were seen: one bit each, in pages that are made when they are needed. */

const PAGE_POSITIONS = 65_536

export interface Range {
  readonly first: number
  readonly last: number
}

export class PositionSet {
  readonly #pages = new Map<number, Uint8Array>()
  lowest = Infinity
  highest = 0
  size = 0

  /** False when it was there already. */
  add(position: number): boolean {
    const number = Math.floor(position / PAGE_POSITIONS)
    let page = this.#pages.get(number)
    if (page === undefined) this.#pages.set(number, (page = new Uint8Array(PAGE_POSITIONS / 8)))
    const at = position % PAGE_POSITIONS
    const bit = 1 << (at & 7)
    const before = page[at >> 3] ?? 0
    if ((before & bit) !== 0) return false
    page[at >> 3] = before | bit
    this.lowest = Math.min(this.lowest, position)
    this.highest = Math.max(this.highest, position)
    this.size += 1
    return true
  }

  has(position: number): boolean {
    const at = position % PAGE_POSITIONS
    return (((this.#pages.get(Math.floor(position / PAGE_POSITIONS))?.[at >> 3] ?? 0) >> (at & 7)) & 1) === 1
  }

  /** Ranges of `first` to `last` that were not seen, in order. */
  *missing(first: number, last: number): Generator<Range> {
    let from: number | undefined
    for (let position = first; position <= last; position += 1) {
      const page = this.#pages.get(Math.floor(position / PAGE_POSITIONS))
      const at = position % PAGE_POSITIONS
      // Whole bytes at once, where all or nothing of them is there.
      if ((at & 7) === 0 && position + 7 <= last) {
        const byte = page?.[at >> 3] ?? 0
        if (byte === 0xff || byte === 0) {
          if (byte === 0) from ??= position
          else if (from !== undefined) {
            yield { first: from, last: position - 1 }
            from = undefined
          }
          position += 7
          continue
        }
      }
      const there = (((page?.[at >> 3] ?? 0) >> (at & 7)) & 1) === 1
      if (!there) from ??= position
      else if (from !== undefined) {
        yield { first: from, last: position - 1 }
        from = undefined
      }
    }
    if (from !== undefined) yield { first: from, last }
  }
}

/** What of a range none of the others covers, in order. */
export function without(range: Range, others: readonly Range[]): Range[] {
  let rest: Range[] = [range]
  for (const { first, last } of others) {
    rest = rest.flatMap((part) => {
      if (last < part.first || first > part.last) return [part]
      const parts: Range[] = []
      if (part.first < first) parts.push({ first: part.first, last: first - 1 })
      if (part.last > last) parts.push({ first: last + 1, last: part.last })
      return parts
    })
  }
  return rest
}
