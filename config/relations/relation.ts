import type { Finding } from '../issues.ts'
import type { Path } from '../problem.ts'
import type { Config, Section } from '../schema.ts'

/** A rule between several values. It runs when the sections that it reads are valid in themselves. */
export interface Relation {
  readonly reads: readonly Section[]
  readonly check: (config: Config) => Iterable<Finding>
}

/** A rule that is given only the sections that it names. */
export function relation<K extends Section>(reads: readonly K[], check: (config: Pick<Config, K>) => Iterable<Finding>): Relation {
  return { reads, check }
}

export function wrong(path: Path, message: string): Finding {
  return { severity: 'error', path, message }
}

export function warning(path: Path, message: string): Finding {
  return { severity: 'warning', path, message }
}
