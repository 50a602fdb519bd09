import { shown, Wrong } from '../units.ts'

/** A JSON pointer (RFC 6901) to a member → its tokens, decoded. The whole document and empty names are refused. */
export function readPointer(text: string): readonly string[] | Wrong {
  if (!/^(\/[^/]+)+$/.test(text)) return new Wrong(`${shown(text)} is no JSON pointer; write for example json:/level or json:/log/level`)
  if (/~(?![01])/.test(text)) return new Wrong('a lone ~ in a JSON pointer; write ~0 for ~ and ~1 for /')
  return text
    .slice(1)
    .split('/')
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'))
}
