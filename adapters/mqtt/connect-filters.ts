/** Topic filters (MQTT 5 section 4.7): which are valid, what they match, and where two of them meet. Pure. */
export interface ConnectFilter {
  readonly filter: string
  /** Highest QoS wanted. 2 is subscribed as 1: see `grantable`. */
  readonly qos: 0 | 1 | 2
}

export interface FilterFault {
  readonly reason: string
  readonly remedy: string
}

/** `undefined` for a filter that may be subscribed to. */
export function filterFault(filter: string): FilterFault | undefined {
  if (/^\$(share|queue)(\/|$)/.test(filter)) {
    return {
      reason:
        'is a shared subscription: it spreads one device over several gateways, so order is void, and what one of them leaves unacknowledged becomes a duplicate at another',
      remedy: 'Subscribe without $share/, one gateway for each part of the topic tree.',
    }
  }
  if (filter === '' || filter.includes('\0') || Buffer.byteLength(filter) > 65_535) {
    return { reason: 'is no topic filter', remedy: 'Write a filter such as devices/+/logs/#.' }
  }
  const levels = filter.split('/')
  const misplaced = levels.some((level, index) =>
    level.includes('#') ? level !== '#' || index !== levels.length - 1 : level.includes('+') && level !== '+',
  )
  return misplaced
    ? {
        reason: 'has a wildcard in the wrong place',
        remedy: '"+" stands for one whole level, "#" for all that follow and only at the end.',
      }
    : undefined
}

/**
 * QoS to subscribe with. Never 2: its exchange would have to be durable here as well, or a restart between
 * PUBREC and PUBREL loses the message. At 1 the broker still takes QoS 2 from devices, and keeps each message
 * until we acknowledge it.
 */
export function grantable(filter: ConnectFilter): 0 | 1 {
  return filter.qos === 0 ? 0 : 1
}

/** Section 4.7.2: a wildcard at the first level doesn't match topics that begin with `$`. */
export function matches(filter: string, topic: string): boolean {
  if (topic.startsWith('$') && /^[+#]/.test(filter)) return false
  return meets(filter.split('/'), topic.split('/'))
}

export interface Reduced {
  readonly filters: readonly ConnectFilter[]
  /** Two filters of which neither covers the other, though some topic matches both. */
  readonly clash: readonly [string, string] | undefined
}

/**
 * Drops filters that another one covers: a broker may send a message once for each subscription that matches
 * (MQTT 5 section 3.3.4), and each copy would be a message of its own here.
 */
export function withoutOverlaps(filters: readonly ConnectFilter[]): Reduced {
  const kept: ConnectFilter[] = []
  for (const candidate of filters) {
    const wider = kept.findIndex((one) => covers(one.filter, candidate.filter))
    if (wider >= 0) {
      kept[wider] = atLeast(kept[wider] as ConnectFilter, candidate)
      continue
    }
    const narrower = kept.filter((one) => covers(candidate.filter, one.filter))
    const merged = narrower.reduce(atLeast, candidate)
    const clash = kept.find((one) => !narrower.includes(one) && overlaps(one.filter, candidate.filter))
    if (clash !== undefined) return { filters, clash: [clash.filter, candidate.filter] }
    kept.splice(0, kept.length, ...kept.filter((one) => !narrower.includes(one)), merged)
  }
  return { filters: kept, clash: undefined }
}

function atLeast(filter: ConnectFilter, other: ConnectFilter): ConnectFilter {
  return other.qos > filter.qos ? { filter: filter.filter, qos: other.qos } : filter
}

/** Every topic of `narrow` matches `wide`. */
function covers(wide: string, narrow: string): boolean {
  if (narrow.startsWith('$') && /^[+#]/.test(wide)) return false
  return coversLevels(wide.split('/'), narrow.split('/'))
}

function coversLevels(wide: readonly string[], narrow: readonly string[]): boolean {
  for (let index = 0; ; index++) {
    const level = wide[index]
    const other = narrow[index]
    if (level === '#') return true
    if (level === undefined || other === undefined) return level === other
    if (other === '#' || (level !== '+' && level !== other)) return false
  }
}

/** Some topic matches both. */
function overlaps(one: string, other: string): boolean {
  if (one.startsWith('$') !== other.startsWith('$') && /^[+#]/.test(one.startsWith('$') ? other : one)) return false
  return meets(one.split('/'), other.split('/'))
}

function meets(one: readonly string[], other: readonly string[]): boolean {
  for (let index = 0; ; index++) {
    const level = one[index]
    const opposite = other[index]
    if (level === '#' || opposite === '#') return true
    if (level === undefined || opposite === undefined) return level === opposite
    if (level !== '+' && opposite !== '+' && level !== opposite) return false
  }
}
