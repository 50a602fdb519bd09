/** A view cut to a terminal: long lines are wrapped, and what matters least is said in short when the screen is low. */

export interface Screen {
  readonly columns: number
  readonly rows: number
}

export interface Section {
  readonly lines: readonly string[]
  /** Said instead when the whole does not fit; sections give way from the last one up. */
  readonly short?: readonly string[]
  /** Lines of a table are cut, not wrapped. */
  readonly isTable?: boolean
}

/** Where the text of a fact begins; what is wrapped goes on below it. */
const INDENT = '           '

/** The terminal's size; undefined where the output goes elsewhere: then nothing is cut. */
export function screenOf(stream: NodeJS.WriteStream): Screen | undefined {
  return stream.isTTY ? { columns: stream.columns ?? 80, rows: stream.rows ?? 24 } : undefined
}

/** One line of the screen stays free for the prompt. */
export function fitted(sections: readonly Section[], screen: Screen | undefined): readonly string[] {
  if (screen === undefined) return sections.flatMap(({ lines }) => lines)
  const rows = Math.max(4, screen.rows - 1)
  const shown = sections.map((section) => laidOut(section, section.lines, screen.columns))
  const height = (): number => shown.reduce((sum, lines) => sum + lines.length, 0)
  for (let index = sections.length - 1; index >= 0 && height() > rows; index--) {
    const section = sections[index]
    if (section?.short !== undefined) shown[index] = laidOut(section, section.short, screen.columns)
  }
  const lines = shown.flat()
  return lines.length <= rows ? lines : [...lines.slice(0, rows - 1), '  … more: edgectl status --json']
}

function laidOut({ isTable }: Section, lines: readonly string[], columns: number): readonly string[] {
  return isTable === true ? lines.map((line) => cut(line, columns)) : lines.flatMap((line) => wrapped(line, columns))
}

function wrapped(line: string, columns: number): readonly string[] {
  const out: string[] = []
  let rest = line
  while (rest.length > columns) {
    const space = rest.lastIndexOf(' ', columns)
    const at = space > INDENT.length ? space : columns
    out.push(rest.slice(0, at))
    rest = INDENT + rest.slice(at).trimStart()
  }
  return [...out, rest]
}

function cut(line: string, columns: number): string {
  return line.length <= columns ? line : `${line.slice(0, columns - 1)}…`
}
