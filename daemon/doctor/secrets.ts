/** Takes secrets out of texts that leave the box. Pure. */

const HIDDEN = '(hidden)'
/** Shorter ones would blacken words by chance. They are hidden by their place, below. */
const LENGTH_LEAST = 4

const WORD = '(?:password|passwd|passphrase|secret|token|credential)s?'

/**
 * What stands for a secret wherever it stands: in a text, in a URL, in JSON, and in JSON in a line that is JSON itself.
 * Every repetition is bounded or can match in one way only: whoever sends us topics must not hold this up.
 */
const PLACES: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|$)/g, HIDDEN],
  [/([a-z][a-z0-9+.-]{0,20}:\/\/)[^/\s"'@]*@/gi, `$1${HIDDEN}@`],
  [/([?&][\w-]{0,40}(?:token|key|secret|password|sig|signature|auth)[\w-]{0,40}=)[^&\s"'#]+/gi, `$1${HIDDEN}`],
  [/\b(authorization["']?\s?[:=]\s?["']?(?:basic |bearer )?)[\w.~+/=-]{4,}/gi, `$1${HIDDEN}`],
  [/\b(bearer|basic)(\s)[\w.~+/-]{8,}=*/gi, `$1$2${HIDDEN}`],
  [/\beyJ[\w-]{6,2000}\.[\w-]{2,4000}\.[\w-]*/g, HIDDEN],
  [/\$[67]\$(?:\d{1,9}\$)?[\w+/=.-]+\$[\w+/=.-]+/g, HIDDEN],
  [new RegExp(`(${WORD}["']?\\s?[:=]\\s?)"(?:[^"\\\\\\n]|\\\\.)*"`, 'gi'), `$1"${HIDDEN}"`],
  [new RegExp(`(${WORD}\\\\{1,8}"\\s?:\\s?\\\\{1,8}")[^"\\\\\\n]*`, 'gi'), `$1${HIDDEN}`],
  [/((?:password|passwd|passphrase|secret)s?\s?[:=]\s?)(?!\(hidden\))[^\s"',;}&\\]+/gi, `$1${HIDDEN}`],
  [/("(?:payload|payloadText|body)"\s?:\s?)"(?:[^"\\\n]|\\.)*"/g, `$1"${HIDDEN}"`],
]

/** Lines of secret files as they may be repeated somewhere: whole, and of `user:hash` the hash. */
export function secretsIn(content: string): readonly string[] {
  const lines = content.split(/\r?\n/).map((line) => line.trim())
  const parts = lines.flatMap((line) => [line, ...line.split(':').slice(1)])
  return parts.filter((part) => part.length >= LENGTH_LEAST && !part.startsWith('-----') && !part.startsWith('#'))
}

/** Hides each of `secrets` in each form in which texts and URLs write it, and whatever stands where secrets stand. */
export function redactor(secrets: readonly string[]): (text: string) => string {
  const forms = secrets.flatMap((secret) => [
    secret,
    encodeURIComponent(secret),
    JSON.stringify(secret).slice(1, -1),
    Buffer.from(secret).toString('base64'),
  ])
  // The longest first: one may hold another.
  const known = [...new Set(forms)].filter(({ length }) => length >= LENGTH_LEAST).sort((a, b) => b.length - a.length)
  return (text) => {
    const without = known.reduce((rest, secret) => rest.replaceAll(secret, HIDDEN), text)
    return PLACES.reduce((rest, [pattern, replacement]) => rest.replace(pattern, replacement), without)
  }
}
