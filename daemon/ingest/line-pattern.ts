/**
 * Regular expressions for payloads, compiled to a nondeterministic automaton over bytes.
 *
 * Not JavaScript's own: that one backtracks, and a device could write a line that stalls the whole box for minutes
 * with a pattern as plain as `a*b*c*d`. Here a search is linear in the line (`line-search.ts`).
 *
 * Syntax: literals, `.`, `[a-z]`, `[^…]`, `\d \w \s \D \W \S`, `\b \B`, `^ $`, `( )`, `(?: )`, `|`, `* + ? {n,m}`, `(?i)` in front.
 * `.` and classes mean one byte, so a character beyond ASCII is two to four of them; a literal one matches its UTF-8 bytes.
 * Look-around and back-references are refused: they are what makes a search more than linear.
 */
import { GatewayError } from '../errors.ts'

export type Assertion = 'start' | 'end' | 'boundary' | 'inside'

/** One instruction; `next` and `other` are indices into the program. */
type Step =
  | { readonly kind: 'byte'; readonly set: Uint8Array; readonly next: number }
  | { readonly kind: 'fork'; next: number; readonly other: number }
  | { readonly kind: 'assert'; readonly what: Assertion; readonly next: number }
  | { readonly kind: 'match' }

export interface LineProgram {
  readonly steps: readonly Step[]
  readonly start: number
}

/** A line of 1 KiB costs at most this many operations a byte. */
export const STEPS_AT_MOST = 500
const SOURCE_LENGTH_AT_MOST = 1000

type Node =
  | { readonly kind: 'set'; readonly set: Uint8Array }
  | { readonly kind: 'assert'; readonly what: Assertion }
  | { readonly kind: 'sequence'; readonly items: readonly Node[] }
  | { readonly kind: 'choice'; readonly items: readonly Node[] }
  | { readonly kind: 'repeat'; readonly item: Node; readonly least: number; readonly most: number }

/** Throws a `rejected` GatewayError that names the place. */
export function compileLinePattern(source: string): LineProgram {
  if (source.length > SOURCE_LENGTH_AT_MOST) throw wrong(source.slice(0, 40), 0, `it is longer than ${SOURCE_LENGTH_AT_MOST} characters`)
  const steps: Step[] = [{ kind: 'match' }]
  const emit = (step: Step): number => {
    if (steps.push(step) > STEPS_AT_MOST)
      throw wrong(source, source.length, `it needs more than ${STEPS_AT_MOST} steps; use smaller counts in {n,m}`)
    return steps.length - 1
  }
  return { start: write(new Reader(source).whole(), 0, emit), steps }
}

/** Written from the end to the front, so that each step knows the next. */
function write(node: Node, next: number, emit: (step: Step) => number): number {
  switch (node.kind) {
    case 'set':
      return emit({ kind: 'byte', set: node.set, next })
    case 'assert':
      return emit({ kind: 'assert', what: node.what, next })
    case 'sequence':
      return node.items.reduceRight((after, item) => write(item, after, emit), next)
    case 'choice':
      return node.items.map((item) => write(item, next, emit)).reduceRight((other, first) => emit({ kind: 'fork', next: first, other }))
    case 'repeat':
      return writeRepeat(node.item, node.least, node.most, next, emit)
  }
}

function writeRepeat(item: Node, least: number, most: number, next: number, emit: (step: Step) => number): number {
  let entry = next
  if (most === Infinity) {
    const fork: Step = { kind: 'fork', next, other: next }
    entry = emit(fork)
    fork.next = write(item, entry, emit)
  } else {
    for (let times = least; times < most; times++) entry = emit({ kind: 'fork', next: write(item, entry, emit), other: next })
  }
  for (let times = 0; times < least; times++) entry = write(item, entry, emit)
  return entry
}

const CLASSES: Readonly<Record<string, string>> = { d: '0-9', w: 'A-Za-z0-9_', s: ' \t\n\v\f\r' }
const CONTROLS: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, 0: 0 }

class Reader {
  readonly #source: string
  readonly #ignoreCase: boolean
  #at = 0

  constructor(source: string) {
    this.#source = source
    this.#ignoreCase = source.startsWith('(?i)')
    if (this.#ignoreCase) this.#at = 4
  }

  whole(): Node {
    const node = this.#choice()
    if (this.#at < this.#source.length) throw this.#wrong('there is a ) without its (')
    return node
  }

  #choice(): Node {
    const items = [this.#sequence()]
    while (this.#take('|')) items.push(this.#sequence())
    return items.length === 1 && items[0] !== undefined ? items[0] : { kind: 'choice', items }
  }

  #sequence(): Node {
    const items: Node[] = []
    for (let next = this.#peek(); next !== '' && next !== '|' && next !== ')'; next = this.#peek()) items.push(this.#repeated())
    return { kind: 'sequence', items }
  }

  #repeated(): Node {
    let item = this.#atom()
    for (let bounds = this.#bounds(); bounds !== undefined; bounds = this.#bounds()) {
      if (item.kind === 'assert') throw this.#wrong('^, $, \\b and \\B can not be repeated')
      item = { kind: 'repeat', item, least: bounds[0], most: bounds[1] }
      // Lazy or greedy makes no difference to whether something matches.
      this.#take('?')
    }
    return item
  }

  #bounds(): readonly [number, number] | undefined {
    if (this.#take('*')) return [0, Infinity]
    if (this.#take('+')) return [1, Infinity]
    if (this.#take('?')) return [0, 1]
    const counts = /^\{(\d{1,4})(?:(,)(\d{1,4})?)?\}/.exec(this.#source.slice(this.#at))
    if (counts === null) return undefined
    this.#at += counts[0].length
    const least = Number(counts[1])
    const most = counts[2] === undefined ? least : counts[3] === undefined ? Infinity : Number(counts[3])
    if (most < least) throw this.#wrong(`{${least},${most}} ends before it begins`)
    return [least, most]
  }

  #atom(): Node {
    const next = this.#peek()
    if (next === '*' || next === '+' || next === '?') throw this.#wrong(`there is nothing that ${next} could repeat`)
    if (this.#take('(')) return this.#group()
    if (this.#take('[')) return { kind: 'set', set: this.#bracket() }
    if (this.#take('\\')) return this.#escape()
    if (this.#take('^')) return { kind: 'assert', what: 'start' }
    if (this.#take('$')) return { kind: 'assert', what: 'end' }
    if (this.#take('.')) return { kind: 'set', set: inverted(setOf('\n')) }
    return this.#literal()
  }

  #group(): Node {
    if (this.#peek() === '?' && !this.#take('?:')) {
      const name = /^\?<[A-Za-z_]\w*>/.exec(this.#source.slice(this.#at))
      if (name === null) throw this.#wrong('look-around and flags inside a pattern are not supported')
      this.#at += name[0].length
    }
    const node = this.#choice()
    if (!this.#take(')')) throw this.#wrong('there is a ( without its )')
    return node
  }

  #escape(): Node {
    if (this.#take('b')) return { kind: 'assert', what: 'boundary' }
    if (this.#take('B')) return { kind: 'assert', what: 'inside' }
    return { kind: 'set', set: this.#fold(this.#escapedSet()) }
  }

  /** What stands behind a backslash, as a set of bytes. */
  #escapedSet(): Uint8Array {
    const next = this.#peek()
    const lower = CLASSES[next.toLowerCase()]
    this.#at++
    if (lower !== undefined) return next === next.toLowerCase() ? setOf(lower) : inverted(setOf(lower))
    const control = CONTROLS[next]
    if (control !== undefined) return single(control)
    if (next === 'x') return single(this.#hex())
    if (next === '' || /[A-Za-z0-9]/.test(next) || next.charCodeAt(0) > 127) throw this.#wrong(`\\${next} is not supported`)
    return single(next.charCodeAt(0))
  }

  #hex(): number {
    const digits = /^[0-9A-Fa-f]{2}/.exec(this.#source.slice(this.#at))
    if (digits === null) throw this.#wrong('\\x needs two hex digits')
    this.#at += 2
    return Number.parseInt(digits[0], 16)
  }

  #bracket(): Uint8Array {
    const negated = this.#take('^')
    const set = new Uint8Array(256)
    while (!this.#take(']')) {
      if (this.#peek() === '') throw this.#wrong('there is a [ without its ]')
      this.#addMembers(set)
    }
    return negated ? inverted(this.#fold(set)) : this.#fold(set)
  }

  /** One member or one range; next to a class such as \d a `-` is itself. */
  #addMembers(set: Uint8Array): void {
    const from = this.#member()
    const isRange = this.#peek() === '-' && this.#source[this.#at + 1] !== ']' && this.#take('-')
    const to = isRange ? this.#member() : from
    const [low, high] = [onlyMember(from), onlyMember(to)]
    if (isRange && low !== undefined && high !== undefined) {
      if (high < low) throw this.#wrong('a range in [ ] ends before it begins')
      set.fill(1, low, high + 1)
      return
    }
    for (let byte = 0; byte < 256; byte++) if (from[byte] === 1 || to[byte] === 1) set[byte] = 1
    if (isRange) set[0x2d] = 1
  }

  #member(): Uint8Array {
    if (this.#take('\\')) return this.#take('b') ? single(8) : this.#escapedSet()
    const code = this.#source.charCodeAt(this.#at++)
    if (!(code < 128)) throw this.#wrong('[ ] holds a character beyond ASCII; write a choice, as in (ä|ö)')
    return single(code)
  }

  #literal(): Node {
    const character = String.fromCodePoint(this.#source.codePointAt(this.#at) ?? 0)
    this.#at += character.length
    const items = [...Buffer.from(character)].map((byte): Node => ({ kind: 'set', set: this.#fold(single(byte)) }))
    return items.length === 1 && items[0] !== undefined ? items[0] : { kind: 'sequence', items }
  }

  #fold(set: Uint8Array): Uint8Array {
    if (!this.#ignoreCase) return set
    for (let upper = 65; upper <= 90; upper++) {
      if (set[upper] === 1 || set[upper + 32] === 1) set[upper] = set[upper + 32] = 1
    }
    return set
  }

  #peek(): string {
    return this.#source[this.#at] ?? ''
  }

  #take(text: string): boolean {
    if (!this.#source.startsWith(text, this.#at)) return false
    this.#at += text.length
    return true
  }

  #wrong(fault: string): GatewayError {
    return wrong(this.#source, this.#at, fault)
  }
}

/** Members of a class in `a-z` notation. */
function setOf(ranges: string): Uint8Array {
  const set = new Uint8Array(256)
  for (const range of ranges.match(/.-.|[^]/g) ?? []) set.fill(1, range.charCodeAt(0), range.charCodeAt(range.length - 1) + 1)
  return set
}

function single(byte: number): Uint8Array {
  const set = new Uint8Array(256)
  set[byte] = 1
  return set
}

function inverted(set: Uint8Array): Uint8Array {
  return set.map((has) => 1 - has)
}

function onlyMember(set: Uint8Array): number | undefined {
  const first = set.indexOf(1)
  return first !== -1 && set.indexOf(1, first + 1) === -1 ? first : undefined
}

function wrong(source: string, at: number, fault: string): GatewayError {
  return new GatewayError('rejected', `limits.severity.from: the pattern "${source}" is wrong at character ${at + 1}: ${fault}.`, {
    remedy: 'Write a plain expression, as in pattern:\\b(ERROR|FATAL)\\b.',
  })
}
