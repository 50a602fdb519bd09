import { formatPath, type Path } from './problem.ts'

/** Keys that people know from elsewhere, and what stands for them here. */
const MEANT: Readonly<Record<string, string>> = {
  '<<': 'merge keys are not supported; write the values out',
  password: 'secrets are read from files; write passwordFile: /path/to/a/file',
  secret: 'secrets are read from files; write the path of a file',
  token: 'secrets are read from files; write tokenFile: /path/to/a/file',
  clientSecret: 'secrets are read from files; write clientSecretFile: /path/to/a/file',
  clean: 'the session is always kept; remove this key, and set sessionExpiry',
  cleanSession: 'the session is always kept; remove this key, and set sessionExpiry',
  cleanStart: 'the session is always kept; remove this key, and set sessionExpiry',
  rejectUnauthorized: 'certificates are always verified; remove this key, and name the authority with ca',
  insecure: 'certificates are always verified; remove this key, and name the authority with ca',
  bootstrapServers: 'write brokers: ["host:9092"]',
  host: 'write url: mqtt://host:port',
  port: 'write url: mqtt://host:port',
}

/**
 * What to write instead of an unknown key: a near key of the same map, else the place where the schema has a
 * key of this name, else the keys that are known here.
 */
export function suggestKey(key: string, known: readonly string[], everywhere: readonly Path[]): string {
  const meant = Object.hasOwn(MEANT, key) ? MEANT[key] : undefined
  if (meant !== undefined) return meant
  const near = nearest(key, known)
  if (near !== undefined) return `did you mean ${near}?`
  const elsewhere = everywhere.filter((path) => path[path.length - 1] === key && !path.includes('*'))
  if (elsewhere.length > 0 && elsewhere.length <= 3) return `it belongs at ${elsewhere.map(formatPath).join(' or ')}`
  return known.length === 0 ? 'remove it' : `known here: ${known.join(', ')}`
}

/** The nearest word, if it is near enough to be a slip: one edit for each three letters, another case, or cut short. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  const folded = fold(word)
  const scored = candidates
    .map((candidate) => ({ candidate, edits: editDistance(folded, fold(candidate)) }))
    .sort((a, b) => a.edits - b.edits)
  const best = scored[0]
  if (best === undefined || word.length > 100) return undefined
  if (best.edits <= Math.max(1, Math.floor(Math.min(word.length, best.candidate.length) / 3))) return best.candidate
  const longer = candidates.filter((candidate) => folded.length >= 3 && fold(candidate).startsWith(folded))
  return longer.length === 1 ? longer[0] : undefined
}

/** `max_connections`, `max-connections` and `maxConnections` are one word. */
function fold(word: string): string {
  return word.toLowerCase().replaceAll(/[-_]/g, '')
}

/** Insertions, deletions, replacements and swaps of neighbours (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row]
    for (let column = 1; column <= b.length; column += 1) {
      const same = a[row - 1] === b[column - 1]
      const swapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]
      current[column] = Math.min(
        (last[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (last[column - 1] ?? 0) + (same ? 0 : 1),
        swapped ? (beforeLast[column - 2] ?? 0) + 1 : Infinity,
      )
    }
    beforeLast = last
    last = current
  }
  return last[b.length] ?? 0
}
