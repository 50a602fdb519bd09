/** Where a value was written. `line` and `column` count from 1; absent for a layer that is no file. */
export interface Origin {
  /** Path of the file, or the label of the layer. */
  readonly source: string
  readonly line?: number
  readonly column?: number
}

export type Path = readonly (string | number)[]

/** One thing that is wrong with the config, and what to write instead. */
export interface Problem {
  readonly severity: 'error' | 'warning'
  readonly origin: Origin
  /** Empty for a problem of a whole file. */
  readonly path: Path
  readonly message: string
  /** The file may not be read by this user: nothing is known of the configuration itself. */
  readonly denied?: true
}

/** Every error found, in the order of the files, lines and columns. `message` is one line per problem. */
export class ConfigError extends Error {
  readonly problems: readonly Problem[]

  constructor(problems: readonly Problem[]) {
    super(problems.map(formatProblem).join('\n'))
    this.name = 'ConfigError'
    this.problems = problems
  }
}

/** `config.yaml:3:19 mqtt.connect.plant.receiveMaximum: 70000 is too big; at most 65535` */
export function formatProblem(problem: Problem): string {
  const path = formatPath(problem.path)
  // The colon keeps a lone label apart from the path.
  const place = `${formatOrigin(problem.origin)}${problem.origin.line === undefined ? ':' : ''}`
  return `${place} ${path === '' ? '' : `${path}: `}${problem.message}`
}

/** `config.yaml:3:19`, or the label alone. */
export function formatOrigin(origin: Origin): string {
  if (origin.line === undefined) return origin.source
  return `${origin.source}:${origin.line}:${origin.column ?? 1}`
}

/** `a.b[0].c`; a step with other characters than a plain key's is quoted. */
export function formatPath(path: Path): string {
  return path.reduce<string>((text, step) => {
    if (typeof step === 'number') return `${text}[${step}]`
    const key = /^[A-Za-z0-9_-]+$/.test(step) ? step : JSON.stringify(step)
    return text === '' ? key : `${text}.${key}`
  }, '')
}

/** By source in the order given (that of merging; others after them), then line, column and path. */
export function sortProblems(problems: readonly Problem[], sources: readonly string[]): readonly Problem[] {
  const rank = ({ origin }: Problem): number => (sources.includes(origin.source) ? sources.indexOf(origin.source) : sources.length)
  return [...problems].sort(
    (a, b) =>
      rank(a) - rank(b) ||
      (a.origin.line ?? 0) - (b.origin.line ?? 0) ||
      (a.origin.column ?? 0) - (b.origin.column ?? 0) ||
      formatPath(a.path).localeCompare(formatPath(b.path), 'en'),
  )
}

/** True if `path` is `root` or lies under it. */
export function isUnder(path: Path, root: Path): boolean {
  return root.length <= path.length && root.every((step, index) => step === path[index])
}
