/**
 * W3C Trace Context, section 3.2: the `traceparent` of a message, if it has a valid one.
 */

const VERSION_00 = /^00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$/
/** A later version may have more behind what version 00 has. */
const LATER = /^(?!ff|00)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?$/

/** Undefined when there is none, more than one, or one that is not valid: a wrong parent is worse than none. */
export function traceparentOf(properties: readonly (readonly [string, string])[]): string | undefined {
  let found: string | undefined
  for (const [name, value] of properties) {
    if (name !== 'traceparent') continue
    if (found !== undefined) return undefined
    found = value
  }
  if (found === undefined) return undefined
  const ids = VERSION_00.exec(found) ?? LATER.exec(found)
  return ids === null || /^0+$/.test(ids[1] ?? '') || /^0+$/.test(ids[2] ?? '') ? undefined : found
}
