/**
 * Checks the regular expressions that may be written for payloads. They run on bytes that a device chose, in an
 * engine of the gateway's own whose time is linear in the payload; what that engine does not know is refused here,
 * where the line and column can be told.
 *
 * Syntax: literals, `.`, `[a-z]`, `[^…]`, `\d \w \s \D \W \S`, `\b \B`, `^ $`, `( )`, `(?: )`, `|`, `* + ? {n,m}`,
 * and `(?i)` in front.
 */

const EXAMPLE = 'write for example pattern:\\b(ERROR|FATAL)\\b'
const MAX_LENGTH = 1_000

/** What is wrong, or undefined. */
export function wrongPattern(source: string): string | undefined {
  const pattern = source.replace(/^\(\?i\)/, '')
  if (pattern === '') return `the pattern is empty; ${EXAMPLE}`
  if (source.length > MAX_LENGTH) return `the pattern is longer than ${MAX_LENGTH} characters; write a shorter one`
  const unknown = unknownSyntax(pattern)
  if (unknown !== undefined) return `${unknown} is not supported; ${EXAMPLE}`
  try {
    // Only compiled, never run.
    return RegExp(pattern) instanceof RegExp ? undefined : EXAMPLE
  } catch (error) {
    return `no valid regular expression (${error instanceof Error ? error.message : String(error)}); ${EXAMPLE}`
  }
}

/** Look-around, back-references and the escapes that the engine does not have. */
function unknownSyntax(pattern: string): string | undefined {
  for (const [token] of pattern.matchAll(/\\x[0-9A-Fa-f]{2}|\\.|\(\?(?:<?[=!]|.)|\[(?:\\.|[^\]\\])*\]/gsu)) {
    if (token.startsWith('(?') && token !== '(?:' && token !== '(?<') return `${token} (look-around, flags)`
    if (token.startsWith('[') && /[^\0-\x7f]/.test(token)) return `a character beyond ASCII in ${token}`
    if (token.startsWith('\\') && /^\\[A-Za-z1-9]$/.test(token) && !/^\\[dwsDWSbBtnrvf]$/.test(token)) return token
  }
  return undefined
}
