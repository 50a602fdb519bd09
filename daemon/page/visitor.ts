/** What a request says of where it comes from. */

/** The host of a `Host` field, in lower case, without its port; undefined when it is none. */
export function hostOf(field: string | undefined): string | undefined {
  const url = field === undefined || /[/?#@\\\s]/.test(field) ? null : URL.parse(`http://${field}`)
  return url === null ? undefined : url.hostname.toLowerCase().replace(/\.$/, '')
}

/**
 * False for a name that nobody gave this box: a foreign site whose name was pointed at the box (DNS rebinding) could
 * otherwise read the page through a visitor's browser. An address can't be pointed elsewhere.
 */
export function isOurs(host: string | undefined, names: readonly string[]): boolean {
  if (host === undefined) return false
  return host.startsWith('[') || /^\d+\.\d+\.\d+\.\d+$/.test(host) || host === 'localhost' || names.includes(host)
}

/** False when a browser says that another site made the request; programs that are no browser say nothing. */
export function isSameSite(headers: Readonly<Record<string, string | undefined>>): boolean {
  const site = headers['sec-fetch-site']
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return false
  const { origin } = headers
  if (origin === undefined) return true
  return URL.parse(origin)?.host === headers['host']?.toLowerCase()
}

export function cookieOf(field: string | undefined, name: string): string | undefined {
  for (const part of (field ?? '').split(';')) {
    const [key, value] = part.trim().split('=', 2)
    if (key === name) return value
  }
  return undefined
}
