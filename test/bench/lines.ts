/**
 * Log text for the load: consecutive lines have words in common and differ in numbers and order, as those of a plant
 * do. Groups of 300 compress to a sixth, syslogs of real machines to a ninth or better.
 */
const HOSTS = ['plc-01', 'plc-02', 'press-7', 'oven-3', 'conveyor-12', 'packer-4', 'scale-2', 'robot-9']
const UNITS = ['opcua', 'drive', 'safety', 'kernel', 'recipe', 'vision', 'modbus', 'watch']
const LEVELS = ['info', 'info', 'info', 'debug', 'info', 'warning', 'info', 'error']
const EVENTS = [
  'cycle finished, part accepted',
  'set point reached',
  'connection to peer restored after retry',
  'buffer level above limit, slowing down',
  'axis moved to position',
  'temperature out of band',
  'read of holding registers timed out',
  'operator confirmed message',
  'frame dropped, checksum differs',
  'recipe loaded from store',
  'door opened',
  'vacuum lost while lifting',
]

/** Numbers that look random and are the same in each run (Marsaglia's xorshift). */
function numbers(seed: number): () => number {
  let state = (seed ^ 0x9e37_79b9) | 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
}

/** Different lines of `bytes` ASCII bytes each. */
export function logLines(count: number, bytes: number): Buffer[] {
  const next = numbers(count)
  const pick = (words: readonly string[]): string => words[next() % words.length] ?? ''
  let atMs = Date.UTC(2026, 10, 24, 6)
  return Array.from({ length: count }, (_, index) => {
    atMs += next() % 37
    const head = `${new Date(atMs).toISOString()} ${pick(HOSTS)} ${pick(UNITS)}[${1_000 + (next() % 400)}]: ${pick(LEVELS)} ${pick(EVENTS)}`
    const rest = ` seq=${index} cycle_ms=${next() % 2_000} pressure=${(next() % 9_000) / 10} temp=${20 + (next() % 600) / 10} trace=${next().toString(16).padStart(8, '0')} station=${next() % 64} shift=${next() % 3} state=running`
    return Buffer.from(`${head}${rest}`.padEnd(bytes, '.').slice(0, bytes))
  })
}
