/**
 * Does a pattern match anywhere in a line? A deterministic automaton, built while it runs: each (state, byte) is worked
 * out once, then looked up. Linear in the line whatever the pattern and the line are.
 */
import type { Assertion, LineProgram } from './line-pattern.ts'
import { compileLinePattern } from './line-pattern.ts'

/** A search looks at this much of a payload. */
export const LINE_BYTES_AT_MOST = 1024
/** 1 KiB each. When a line needs more, the cache starts anew. */
const STATES_AT_MOST = 500

const END = 256
const MATCHED = -1
const NOT_YET = -2

type Before = 'nothing' | 'word' | 'other'

interface State {
  /** Steps to be at, before forks and assertions are followed. */
  readonly steps: readonly number[]
  /** What the byte before was. */
  readonly before: Before
  /** Next state by byte or `END`. */
  readonly next: Int32Array
}

export class LineSearch {
  readonly #program: LineProgram
  #states: State[] = []
  #indices = new Map<string, number>()

  /** Throws as `compileLinePattern` does. */
  constructor(source: string) {
    this.#program = compileLinePattern(source)
  }

  /** States in the cache, 1 KiB each. */
  get cachedStates(): number {
    return this.#states.length
  }

  /** Looks at the first `LINE_BYTES_AT_MOST` bytes; line ends at the end of the payload do not count. */
  matches(payload: Uint8Array): boolean {
    let length = payload.length
    while (length > 0 && (payload[length - 1] === 10 || payload[length - 1] === 13)) length--
    const end = Math.min(length, LINE_BYTES_AT_MOST)
    let state = this.#stateOf([], 'nothing')
    for (let at = 0; at < end; at++) {
      state = this.#follow(state, payload[at] ?? 0)
      if (state === MATCHED) return true
    }
    // Where the line was cut, `$` is not reached; the search up to here stands.
    const last = end < length ? (payload[end] ?? 0) : END
    return this.#follow(state, last) === MATCHED
  }

  #follow(from: number, byte: number): number {
    const known = this.#states[from]?.next[byte] ?? NOT_YET
    if (known !== NOT_YET) return known
    const state = this.#states[from]
    if (state === undefined) return MATCHED
    const next = this.#stateAfter(state, byte)
    state.next[byte] = next
    return next
  }

  #stateAfter(state: State, byte: number): number {
    const reached = this.#reach(state, byte)
    if (reached === undefined) return MATCHED
    const steps: number[] = []
    for (const at of reached) {
      const step = this.#program.steps[at]
      if (step?.kind === 'byte' && step.set[byte] === 1) steps.push(step.next)
    }
    return this.#stateOf(
      [...new Set(steps)].sort((a, b) => a - b),
      isWord(byte) ? 'word' : 'other',
    )
  }

  /** All steps reached from a state and from the start, knowing the byte to come; undefined when one is the match. */
  #reach(state: State, byte: number): ReadonlySet<number> | undefined {
    const reached = new Set<number>()
    const open = [...state.steps, this.#program.start]
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      if (reached.has(at)) continue
      reached.add(at)
      const step = this.#program.steps[at]
      if (step?.kind === 'match') return undefined
      if (step?.kind === 'fork') open.push(step.next, step.other)
      if (step?.kind === 'assert' && holds(step.what, state.before, byte)) open.push(step.next)
    }
    return reached
  }

  #stateOf(steps: readonly number[], before: Before): number {
    const key = `${before} ${steps.join(' ')}`
    const known = this.#indices.get(key)
    if (known !== undefined) return known
    if (this.#states.length >= STATES_AT_MOST) {
      this.#states = []
      this.#indices = new Map()
    }
    this.#indices.set(key, this.#states.length)
    return this.#states.push({ steps, before, next: new Int32Array(END + 1).fill(NOT_YET) }) - 1
  }
}

function holds(what: Assertion, before: Before, byte: number): boolean {
  switch (what) {
    case 'start':
      return before === 'nothing'
    case 'end':
      return byte === END
    case 'boundary':
      return (before === 'word') !== isWord(byte)
    case 'inside':
      return (before === 'word') === isWord(byte)
  }
}

function isWord(byte: number): boolean {
  return (byte >= 48 && byte <= 57) || (byte >= 65 && byte <= 90) || byte === 95 || (byte >= 97 && byte <= 122)
}
