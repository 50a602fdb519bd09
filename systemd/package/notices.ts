/** `copyright`: whose work is inside, under which terms (Debian's machine-readable form, DEP 5). */
import type { Notice } from './program.ts'
import { HOME } from './program.ts'

const HEAD = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: edge-gateway
Comment: Node.js and the npm packages are shipped as their makers released them, less what does not run, and less symbols
 that only a debugger reads. The list with versions and checksums is sbom.cdx.json.gz beside this file.

Files: *
Copyright: The edge gateway's authors
License: Apache-2.0
`
const APACHE = `License: Apache-2.0
 On Debian systems the full text of the Apache License, Version 2.0, is in /usr/share/common-licenses/Apache-2.0.
`

export function copyrightText(notices: readonly Notice[]): string {
  const stanzas = notices.map(({ dependency: { name, path, license, version }, text }) => {
    const term = license === 'Apache-2.0' ? license : `${license}-${name.replaceAll(/[^a-z0-9.-]/gi, '-')}`
    const own = license === 'Apache-2.0' ? '' : `${body(text, license, name)}\n`
    const files = `Files: ${HOME}/${path}${path.startsWith('node_modules/') ? '/*' : ''}`
    return `\n${files}\nCopyright: ${holders(text, name)}\nLicense: ${term}\n${own}Comment: ${name} ${version}\n`
  })
  return `${HEAD}${stanzas.join('')}\n${APACHE}`
}

function holders(text: string, name: string): string {
  const found = text
    .match(/^\W*copyright (\(c\)|©|\d{4})[^\n]*$/gim)
    ?.map((line) => line.replace(/^\W*copyright\s*(\(c\)|©)?\s*/i, '').trim())
  return [...new Set(found ?? [`the authors of ${name}`])].slice(0, 40).join('\n ')
}

function body(text: string, license: string, name: string): string {
  if (text.trim() === '') return ` ${name} states ${license} in its package.json, and has no text of its own.`
  return text
    .trim()
    .replaceAll(
      /^.*Apache License\s+Version 2\.0, January 2004[\s\S]*?END OF TERMS AND CONDITIONS/gm,
      'Apache License, Version 2.0: see its text below.',
    )
    .split(/\r?\n/)
    .map((line) => (line.trim() === '' ? ' .' : ` ${line.trimEnd()}`))
    .join('\n')
}
