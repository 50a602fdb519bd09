/**
 * Checks a regular expression that will run on bytes which a device chose. Backtracking that grows
 * exponentially needs a repeated group that can itself match in several ways; such groups, and
 * backreferences, are refused, so that one payload can't hold up the others.
 */

/** What is wrong, or undefined. */
export function wrongPattern(source: string): string | undefined {
  if (source === '') return 'the pattern is empty; write for example pattern:^<level>(\\w+)'
  if (source.length > 512) return 'the pattern is longer than 512 characters; write a shorter one'
  try {
    // eslint-disable-next-line no-new
    new RegExp(source, 'u')
  } catch (error) {
    return `no valid regular expression (${error instanceof Error ? error.message : String(error)}); correct it`
  }
  if (/\\[1-9]|\\k</.test(source.replaceAll('\\\\', ''))) return 'a backreference can take very long on some payloads; write it without \\1'
  return hasRepeatedChoice(source)
    ? 'a repeated group that holds *, +, {n} or | can take very long on some payloads; write for example \\w+ instead of (\\w+)+'
    : undefined
}

/** True for `(a+)+`, `(a|b)*` and the like: a repeat of a group that holds a repeat or a choice. */
function hasRepeatedChoice(source: string): boolean {
  const bare = source.replace(/\\./gsu, 'x').replace(/\[[^\]]*\]/g, 'x')
  const holdsChoice: boolean[] = []
  let closed = false
  for (let index = 0; index < bare.length; index += 1) {
    const repeats = /^(?:[*+]|\{\d+(?:,\d*)?\})/.test(bare.slice(index))
    if (repeats && closed) return true
    closed = false
    if (bare[index] === '(') holdsChoice.push(false)
    else if (bare[index] === ')') closed = closeGroup(holdsChoice)
    else if (repeats || bare[index] === '|') markInnermost(holdsChoice)
  }
  return false
}

/** A group that holds a choice makes the group around it hold one. */
function closeGroup(holdsChoice: boolean[]): boolean {
  const held = holdsChoice.pop() ?? false
  if (held) markInnermost(holdsChoice)
  return held
}

function markInnermost(holdsChoice: boolean[]): void {
  if (holdsChoice.length > 0) holdsChoice[holdsChoice.length - 1] = true
}
