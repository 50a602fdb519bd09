import { kindOf, shown, Wrong } from '../units.ts'
import { scalar } from './scalars.ts'

/** A topic pattern, taken apart. */
export interface TopicPattern {
  /** As written, `devices/{device}/logs/{stream}`. */
  readonly pattern: string
  /** The MQTT topic filter, `devices/+/logs/+`. */
  readonly filter: string
  /** Names of the parts in their order, `['device', 'stream']`; the last may be what remains, `{rest...}`. */
  readonly parts: readonly string[]
}

const PART = /^\{([a-z][A-Za-z0-9_]*)(\.\.\.)?\}$/
const EXAMPLE = 'write for example devices/{device}/logs/{stream}'

/**
 * A pattern is a topic filter (MQTT 5 section 4.7) in which whole levels may be named: `{part}` is one level,
 * `{part...}`, at the end only, is all that remain. `{device}` is needed exactly once.
 */
export function readTopicPattern(value: unknown): TopicPattern | Wrong {
  if (typeof value !== 'string' || value === '') return new Wrong(`expected a topic pattern, got ${kindOf(value)}; ${EXAMPLE}`)
  if (/^\$(share|queue)\//.test(value)) {
    return new Wrong(
      'a shared subscription is refused: it spreads one device over two boxes, and then its messages are neither in order nor free of duplicates; ' +
        `write ${shown(value.replace(/^\$queue\/|^\$share\/[^/]*\//, ''))} and give each box its own devices`,
    )
  }
  const levels = value.split('/')
  const wrong = levels.map((level, index) => wrongLevel(level, index === levels.length - 1)).find((found) => found !== undefined)
  if (wrong !== undefined) return new Wrong(wrong)
  return withParts(value, levels)
}

function withParts(pattern: string, levels: readonly string[]): TopicPattern | Wrong {
  const parts = levels.flatMap((level) => PART.exec(level)?.[1] ?? [])
  if (!parts.includes('device')) return new Wrong(`a level must be {device}, or nobody knows whose message it is; ${EXAMPLE}`)
  const twice = parts.find((part, index) => parts.indexOf(part) !== index)
  if (twice !== undefined) return new Wrong(`{${twice}} stands in it twice; give each part its own name`)
  const filter = levels.map(filterLevel).join('/')
  if (Buffer.byteLength(filter) > 65_535) return new Wrong('longer than the 65535 bytes that MQTT allows; write a shorter one')
  return { pattern, filter, parts }
}

function filterLevel(level: string): string {
  const part = PART.exec(level)
  return part === null ? level : part[2] === undefined ? '+' : '#'
}

function wrongLevel(level: string, isLast: boolean): string | undefined {
  if (/[\u0000-\u001f\u007f-\u009f\ufffd-\uffff]/.test(level) || !level.isWellFormed())
    return 'a topic has no control characters and no damaged ones; remove them'
  if (level === '{device...}') return 'a device is one level; write {device}'
  if (filterLevel(level) === '#') return isLast ? undefined : `${level} may stand only at the end; write + or {name} for one level`
  if (filterLevel(level) === '+') return undefined
  if (/[{}]/.test(level))
    return `${shown(level)} must be a whole level such as {device}, named with letters, digits or "_" and beginning with a small letter`
  return /[+#]/.test(level) ? `+ and # must stand alone in their level, not in ${shown(level)}` : undefined
}

export const topicPattern = scalar(readTopicPattern, { type: 'string', pattern: '\\{device\\}' })

/** True if some topic matches both filters (MQTT 5 section 4.7). */
export function filtersOverlap(a: string, b: string): boolean {
  // A wildcard in the first level does not match `$SYS` and its like (section 4.7.2).
  if ((a.startsWith('$') && /^[+#]/.test(b)) || (b.startsWith('$') && /^[+#]/.test(a))) return false
  return levelsOverlap(a.split('/'), b.split('/'))
}

function levelsOverlap(a: readonly string[], b: readonly string[]): boolean {
  const [first, ...restOfA] = a
  const [second, ...restOfB] = b
  // `a/#` matches `a` too.
  if (first === '#' || second === '#') return true
  if (first === undefined || second === undefined) return first === second
  return (first === second || first === '+' || second === '+') && levelsOverlap(restOfA, restOfB)
}

/** True if every topic that matches `narrow` matches `wide` too. */
export function filterCovers(wide: string, narrow: string): boolean {
  if (narrow.startsWith('$') && /^[+#]/.test(wide)) return false
  return levelsCover(wide.split('/'), narrow.split('/'))
}

function levelsCover([first, ...rest]: readonly string[], [other, ...others]: readonly string[]): boolean {
  if (first === '#') return true
  if (first === undefined || other === undefined) return first === other
  return other !== '#' && (first === '+' || first === other) && levelsCover(rest, others)
}

/** Names of the parts that a template such as `logs.{stream}` uses. */
export function templateParts(template: string): readonly string[] {
  return [...template.matchAll(/\{([^{}]*)\}/g)].map((match) => match[1] ?? '')
}
