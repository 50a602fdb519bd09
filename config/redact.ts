import { type Json, isObject, objectOf } from './merge.ts'

const HIDDEN = '(hidden)'
/** Keys that would hold a secret. The schema has none, but a config that fails validation may. */
const SECRET_KEY = /(password|passwd|secret|token|passphrase|privatekey|credential)s?$/i
const USERINFO = /([a-z][a-z0-9+.-]*:\/\/)[^/\s]*@/gi

/** A copy for people's eyes: no value under a key that names a secret, no user or password in a URL. */
export function redact(value: Json, key = ''): Json {
  if (Array.isArray(value)) return value.map((item: Json) => redact(item, key))
  if (isObject(value)) return objectOf(Object.entries(value).map(([name, item]) => [name, redact(item, name)]))
  if (value !== null && SECRET_KEY.test(key)) return HIDDEN
  return typeof value === 'string' ? value.replace(USERINFO, `$1${HIDDEN}@`) : value
}
