/** How figures look to a person on a terminal. */

const COLOURS = { red: 31, green: 32, yellow: 33, dim: 2, bold: 1 } as const

/** Colours only on a terminal, and not where NO_COLOR is set (no-color.org). */
export function colour(name: keyof typeof COLOURS, text: string): string {
  const wanted = process.stdout.isTTY && process.env['NO_COLOR'] === undefined && process.env['TERM'] !== 'dumb'
  return wanted ? `\u001b[${COLOURS[name]}m${text}\u001b[0m` : text
}

/** `410 MiB`, `2.0 GiB`. */
export function size(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let value = bytes
  let unit = 0
  while (value >= 1_024 && unit < units.length - 1) {
    value /= 1_024
    unit += 1
  }
  return `${unit === 0 || value >= 10 ? Math.round(value) : value.toFixed(1)} ${units[unit] ?? 'B'}`
}

/** `12,345`. */
export function count(value: number): string {
  return value.toLocaleString('en-US')
}

/** Columns as wide as their widest cell; cells that are numbers stand to the right. */
export function table(header: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const cells = [header, ...rows.map((row) => row.map((cell) => (typeof cell === 'number' ? count(cell) : printable(cell))))]
  const widths = header.map((_, column) => Math.max(...cells.map((row) => (row[column] ?? '').length)))
  const right = header.map((_, column) => rows.length > 0 && rows.every((row) => typeof row[column] === 'number'))
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => (right[column] === true ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd()
  return cells.map((row, index) => (index === 0 ? colour('dim', line(row)) : line(row))).join('\n')
}

/** Control characters, and those that turn the direction of what follows. */
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g

/** A device's name or topic must not move the cursor or change colours of the technician's terminal. */
export function printable(text: string): string {
  return text.replaceAll(UNSEEN, visible)
}

/** The last look before a terminal: leaves line ends and our own colours, and stays JSON where it was. */
export function harmless(text: string): string {
  return text
    .split(OUR_OWN)
    .map((part, index) => (index % 2 === 1 ? part : printable(part)))
    .join('')
}

const OUR_OWN = /(\n|\u001b\[(?:0|1|2|3[1-3])m)/

function visible(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}
