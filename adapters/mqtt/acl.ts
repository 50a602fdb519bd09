/** Access of one rule, as in mosquitto's `acl_file`. */
type Access = 'read' | 'write' | 'readwrite' | 'deny'

interface Rule {
  readonly access: Access
  readonly levels: readonly string[]
}

export interface AclSubject {
  /** The user whose password was right, or the common name of its certificate. */
  readonly username: string
  readonly clientId: string
}

/**
 * An access control list in the format of mosquitto's `acl_file`: `user NAME`, `topic [read|write|readwrite|deny]
 * TOPIC` for that user, and `pattern …` with `%u` and `%c` for all. What no rule grants is refused; `deny` wins.
 * Rules before the first `user` line are for anonymous clients, of which there are none behind authentication.
 */
export class AccessList {
  readonly #byUser: ReadonlyMap<string, readonly Rule[]>
  readonly #patterns: readonly Rule[]

  constructor(byUser: ReadonlyMap<string, readonly Rule[]>, patterns: readonly Rule[]) {
    this.#byUser = byUser
    this.#patterns = patterns
  }

  mayPublish(subject: AclSubject, topic: string): boolean {
    return this.#allows('write', subject, topic.split('/'))
  }

  /**
   * True when a rule of the user's own grants it, so that a person meant this user. A pattern does not: it holds for
   * all, and `%c` is a name that the client chose itself.
   */
  mayPublishForOthers(subject: AclSubject, topic: string): boolean {
    const levels = topic.split('/')
    const own = this.#byUser.get(subject.username) ?? []
    return this.#allows('write', subject, levels) && own.some((rule) => grants(rule, 'write') && covers(rule.levels, levels, subject))
  }

  /** A filter is granted only by a rule that covers all that it can match. */
  maySubscribe(subject: AclSubject, filter: string): boolean {
    return this.#allows('read', subject, filter.split('/'))
  }

  #allows(want: 'read' | 'write', subject: AclSubject, levels: readonly string[]): boolean {
    let granted = false
    for (const rule of this.#rulesOf(subject)) {
      if (rule.access === 'deny' ? !overlaps(rule.levels, levels, subject) : !covers(rule.levels, levels, subject)) continue
      if (rule.access === 'deny') return false
      granted ||= grants(rule, want)
    }
    return granted
  }

  #rulesOf(subject: AclSubject): readonly Rule[] {
    const own = this.#byUser.get(subject.username)
    return own === undefined ? this.#patterns : [...own, ...this.#patterns]
  }
}

/** Throws with the line number when a line is none of `user`, `topic`, `pattern`. */
export function parseAclFile(content: Buffer): AccessList {
  const byUser = new Map<string, Rule[]>()
  const patterns: Rule[] = []
  let rules: Rule[] = []
  for (const [i, raw] of content.toString('utf8').split('\n').entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const [, keyword = '', rest = ''] = /^(\S+)\s*(.*)$/.exec(line) ?? []
    if (rest === '' || !['user', 'topic', 'pattern'].includes(keyword)) {
      // The line is not repeated: whoever can set this path must not read other files of the box by it.
      throw new Error(`line ${i + 1}: expected "user NAME", "topic [read|write|readwrite|deny] TOPIC" or "pattern …"`)
    }
    if (keyword === 'user') {
      rules = byUser.get(rest) ?? []
      byUser.set(rest, rules)
    } else (keyword === 'topic' ? rules : patterns).push(ruleOf(rest, keyword === 'pattern'))
  }
  return new AccessList(byUser, patterns)
}

function ruleOf(text: string, substitutes: boolean): Rule {
  const [, access = 'readwrite', topic = ''] = /^(?:(read|write|readwrite|deny)\s+)?(.+)$/.exec(text) ?? []
  // `topic` lines take % as it stands: \0 can't occur in a name, so that a literal %u is told from a placeholder.
  const levels = topic.split('/').map((level) => (substitutes && (level === '%u' || level === '%c') ? `\0${level}` : level))
  return { access: access as Access, levels }
}

function grants(rule: Rule, want: 'read' | 'write'): boolean {
  return rule.access === 'readwrite' || rule.access === want
}

/** True when every topic that `levels` (a topic or a filter) stands for is matched by the rule. */
function covers(rule: readonly string[], levels: readonly string[], subject: AclSubject): boolean {
  if (levels[0]?.startsWith('$') === true && (rule[0] === '#' || rule[0] === '+')) return false
  for (const [i, want] of rule.entries()) {
    if (want === '#') return true
    const level = levels[i]
    if (level === undefined || level === '#') return false
    if (want !== '+' && (level === '+' || level !== literal(want, subject))) return false
  }
  return rule.length === levels.length
}

/** True when some topic is matched by both: a `deny` refuses a filter that reaches into it. */
function overlaps(rule: readonly string[], levels: readonly string[], subject: AclSubject): boolean {
  const length = Math.max(rule.length, levels.length)
  for (let i = 0; i < length; i++) {
    const want = rule[i]
    const level = levels[i]
    if (want === '#' || level === '#') return true
    if (want === undefined || level === undefined) return false
    if (want !== '+' && level !== '+' && level !== literal(want, subject)) return false
  }
  return true
}

/** A whole level, compared as a whole: a name with `/`, `+` or `#` in it can't widen the rule (CVE-2017-7650). */
function literal(level: string, subject: AclSubject): string {
  if (level === '\0%u') return subject.username
  return level === '\0%c' ? subject.clientId : level
}
