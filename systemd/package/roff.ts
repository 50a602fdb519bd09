/** Text for man(7). */
export function roff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('"', '\\(dq')
    .replaceAll(/^([.'])/gm, '\\&$1')
}

export function heading(title: string, section: number, day: string, version: string): string {
  return `.TH "${roff(title)}" ${section} "${day}" "edge-gateway ${version}" "Edge gateway"\n.nh\n.ad l\n`
}

export function section(title: string, body: string): string {
  return `.SH "${roff(title)}"\n${body}`
}

/** A term and what it means. */
export function item(term: string, ...paragraphs: readonly string[]): string {
  return `.TP\n.B "${roff(term)}"\n${paragraphs.map(roff).join('\n.br\n')}\n`
}

/** As it was written, line for line. */
export function verbatim(text: string): string {
  return `.nf\n${roff(text)}\n.fi\n`
}
