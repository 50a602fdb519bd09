import { deriveSettings } from './derive.ts'
import { type EffectiveValue, effectiveValues } from './effective.ts'
import { readConfigFiles } from './files.ts'
import { type Fragment, type FragmentResult, layerFragment, parseFragment } from './fragment.ts'
import type { Host } from './host.ts'
import { mergeFragments } from './input.ts'
import type { JsonObject } from './merge.ts'
import { ConfigError, isUnder, type Problem, sortProblems } from './problem.ts'
import type { Settings } from './settings.ts'
import { validateInput } from './validate.ts'

/** A merge patch above the files: a committed patch or a technician's override. */
export interface Layer {
  /** Shown where a file's name would stand: `patch 2026-11-raise-limits`. */
  readonly label: string
  readonly patch: JsonObject
}

export interface LoadedConfig {
  readonly settings: Settings
  /** Allowed, but probably not meant; sorted like errors. */
  readonly warnings: readonly Problem[]
  /** Every value in force under the keys of the file, with where it was written. */
  readonly effective: readonly EffectiveValue[]
}

/**
 * Reads `path`, then `config.d/*.yaml` beside it in the order of their names, then `layers`, and validates the
 * whole. Reads synchronously: a few small files, at a start or a reload.
 *
 * Throws a ConfigError with every problem found: file, line, column, path and what to write instead. `instead`: the text
 * that the file at `path` is to have, while it has another one or is not there.
 */
export function loadConfig(path: string, layers: readonly Layer[], host: Host, instead?: string): LoadedConfig {
  const [main, ...dropIns] = readConfigFiles(path)
  const files = instead === undefined && main !== undefined ? [main, ...dropIns] : [{ path, text: instead ?? '' }, ...dropIns]
  const results = files.map((file): FragmentResult =>
    'problem' in file ? { fragment: undefined, problems: [file.problem] } : parseFragment(file.path, file.text, host.environment),
  )
  const fragments = results.flatMap(({ fragment }) => fragment ?? [])
  const problems = results.flatMap((result) => result.problems)
  // A file that can't be read at all would make every check of the rest a guess.
  if (fragments.length < results.length) throw new ConfigError(problems)
  return settle([...fragments, ...layers.map(({ label, patch }) => layerFragment(label, patch))], problems, host)
}

/** The second and third stage. `earlier` are problems of single values; what follows from them is not told again. */
function settle(fragments: readonly Fragment[], earlier: readonly Problem[], host: Host): LoadedConfig {
  const input = mergeFragments(fragments, host)
  const { config, findings } = validateInput(input.value, host.diskBytes)
  const later = findings
    .filter(({ path }) => !earlier.some((problem) => problem.path.length > 0 && isUnder(path, problem.path)))
    .map(({ severity, path, message, unknownKey }): Problem => ({
      severity,
      path,
      message,
      origin: input.origin(path, unknownKey === true ? 'key' : 'value'),
    }))
  const problems = sortProblems(
    [...earlier, ...later],
    fragments.map(({ source }) => source),
  )
  const errors = problems.filter(({ severity }) => severity === 'error')
  if (errors.length > 0 || config === undefined) throw new ConfigError(errors)
  const settings = deriveSettings(config, host.diskBytes(config.gateway.dataDir ?? '/'))
  return { settings: frozen(settings), warnings: problems, effective: effectiveValues(input) }
}

/** Settings are shared by all components; none may change them for the others. */
function frozen<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  Object.values(value).forEach(frozen)
  return Object.freeze(value)
}
