import { globalRegistry, type z } from 'zod'
import { type Json, isObject, valueAt } from './merge.ts'
import type { Path } from './problem.ts'
import { allPaths, keysOf, schemaAt } from './schema/walk.ts'
import { nearest, suggestKey } from './suggest.ts'
import { kindOf, shown } from './units.ts'

/** What is wrong at a path; the place in a file is found later. */
export interface Finding {
  readonly severity: 'error' | 'warning'
  readonly path: Path
  readonly message: string
  /** An unknown key; the value below it was not looked at. */
  readonly unknownKey?: true
  /** The key that was probably meant by the unknown one. */
  readonly meantKey?: string | undefined
}

/** How the message on an absent value begins. */
export const MISSING = 'missing'

type Issue = z.core.$ZodIssue

/** Zod's issues in the words of this program, with what to write instead. */
export function findingsOf(issues: readonly Issue[], root: z.core.$ZodType, input: Json | undefined): readonly Finding[] {
  const context = { root, input }
  return issues.flatMap((issue) => flatten(issue, [], context))
}

interface Context {
  readonly root: z.core.$ZodType
  readonly input: Json | undefined
}

function flatten(issue: Issue, base: Path, context: Context): readonly Finding[] {
  const path = [...base, ...(issue.path as Path)]
  if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => unknownKey([...path, key], context.root))
  const branch = issue.code === 'invalid_union' ? meantBranch(issue) : undefined
  if (branch !== undefined) return branch.flatMap((below) => flatten(below, path, context))
  return [{ severity: 'error', path, message: messageOf(issue, path, context) }]
}

/** The alternative that the user was writing: the one whose kind (map, list, word) fits. */
function meantBranch(issue: Extract<Issue, { code: 'invalid_union' }>): readonly Issue[] | undefined {
  const wrongKind = (below: Issue): boolean => below.path.length === 0 && (below.code === 'invalid_type' || below.code === 'invalid_value')
  const fitting = issue.errors.filter((branch) => !branch.some(wrongKind))
  return fitting.length === 1 ? fitting[0] : undefined
}

/** `path` ends with the key that the schema does not have. */
export function unknownKey(path: Path, root: z.core.$ZodType): Finding {
  const parent = schemaAt(root, path.slice(0, -1))
  const known = parent === undefined ? [] : [...keysOf(parent).keys()]
  const key = String(path[path.length - 1])
  const message = `unknown key; ${suggestKey(key, known, allPaths(root))}`
  return { severity: 'error', path, unknownKey: true, meantKey: nearest(key, known), message }
}

function messageOf(issue: Issue, path: Path, context: Context): string {
  const value = valueAt(context.input, path)
  if (value === undefined && issue.code !== 'invalid_key') return missing(path, context.root)
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${EXPECTED[issue.expected] ?? issue.expected}, got ${kindOf(value)}${exampleAt(path, context.root)}`
    case 'too_big':
      return tooMuch(value, 'big', 'many', `at most ${String(issue.maximum)}`)
    case 'too_small':
      return tooMuch(value, 'small', 'few', `at least ${String(issue.minimum)}`)
    case 'invalid_value':
      return `${shown(value)} is not known here; write ${issue.values.map(String).join(', ')}`
    case 'invalid_key':
      return `${shown(path[path.length - 1])} can be no name; write up to 64 letters, digits, "-" or "_", beginning with a letter or digit`
    case 'invalid_union':
      return issue.errors.length === 0 ? `${shown(value)} is not known here; ${optionsOf(issue)}` : `${issue.message}, not ${kindOf(value)}`
    default:
      return issue.message
  }
}

function optionsOf(issue: Extract<Issue, { code: 'invalid_union' }>): string {
  return 'options' in issue && Array.isArray(issue.options) ? `write ${issue.options.map(String).join(', ')}` : issue.message
}

const EXPECTED: Readonly<Record<string, string>> = {
  object: 'a map',
  record: 'a map of names',
  array: 'a list',
  string: 'text',
  boolean: 'true or false',
  number: 'a number',
  int: 'a whole number',
}

function tooMuch(value: Json | undefined, size: string, count: string, bound: string): string {
  if (Array.isArray(value)) return `too ${count} items (${value.length}); ${bound}`
  return `${shown(value)} is too ${size}; ${bound}`
}

function missing(path: Path, root: z.core.$ZodType): string {
  return `${MISSING}${exampleAt(path, root)}`
}

/** `; write for example url: mqtt://127.0.0.1:1883`, when the schema has an example. */
function exampleAt(path: Path, root: z.core.$ZodType): string {
  const schema = schemaAt(root, path)
  const example = schema === undefined ? undefined : globalRegistry.get(schema)?.['example']
  return example === undefined ? '' : `; write for example ${String(path[path.length - 1])}: ${yamlOf(example as Json)}`
}

/** Text that YAML reads as text without quotes, in braces too. */
const PLAIN = /^(?!(?:true|false|null)$)[A-Za-z/](?:[A-Za-z0-9/:._+=-]*[A-Za-z0-9/._+=-])?$/i

/** A value as one writes it in the file. */
export function yamlOf(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(yamlOf).join(', ')}]`
  if (isObject(value))
    return `{ ${Object.entries(value)
      .map(([key, item]) => `${key}: ${yamlOf(item)}`)
      .join(', ')} }`
  if (typeof value === 'string' && !PLAIN.test(value)) return JSON.stringify(value)
  return String(value)
}
