import { type Finding, findingsOf, MISSING, unknownKey } from './issues.ts'
import { type Json, isObject, objectOf } from './merge.ts'
import { formatPath, isUnder } from './problem.ts'
import { allRelations } from './relations.ts'
import { type Config, configSchema, type Section } from './schema.ts'

/** Either a config that can be used, or at least one finding of severity `error`. */
interface Validation {
  readonly config: Config | undefined
  readonly findings: readonly Finding[]
}

/**
 * Checks every section by itself, then the relations between those that are sound, so that all that is wrong
 * is found at once. An unknown key does not hide what else is wrong in its section.
 */
export function validateInput(input: Json, diskBytes: (dataDir: string) => number | undefined): Validation {
  const values = isObject(input) ? input : objectOf([])
  const findings = Object.keys(values)
    .filter((key) => !Object.hasOwn(configSchema.shape, key))
    .map((key) => unknownKey([key], configSchema))
  const config: Partial<Record<Section, unknown>> = {}
  for (const section of Object.keys(configSchema.shape) as Section[]) {
    const result = validateSection(section, values[section])
    findings.push(...result.findings)
    if (result.valid) config[section] = result.value
  }
  findings.push(...checkRelations(config, findings, diskBytes))
  return { config: findings.some(({ severity }) => severity === 'error') ? undefined : (config as Config), findings }
}

type SectionResult = { readonly findings: readonly Finding[] } & (
  { readonly valid: false } | { readonly valid: true; readonly value: unknown }
)

function validateSection(section: Section, input: Json | undefined): SectionResult {
  const schema = configSchema.shape[section]
  const result = schema.safeParse(input)
  if (result.success) return { findings: [], valid: true, value: result.data }
  const issues = result.error.issues.map((issue) => ({ ...issue, path: [section, ...issue.path] }))
  const findings = withoutEchoes(findingsOf(issues, configSchema, objectOf([[section, input ?? null]])))
  const stripped = schema.safeParse(
    withoutUnknown(
      input,
      findings.filter((finding) => finding.unknownKey === true).map(({ path }) => path.slice(1)),
    ),
  )
  return stripped.success ? { findings, valid: true, value: stripped.data } : { findings, valid: false }
}

/** `broker` for `brokers` is one mistake, not also a missing key. */
function withoutEchoes(findings: readonly Finding[]): readonly Finding[] {
  const meant = new Set(
    findings.flatMap(({ path, meantKey }) => (meantKey === undefined ? [] : formatPath([...path.slice(0, -1), meantKey]))),
  )
  return findings.filter(({ path, message }) => !(message.startsWith(MISSING) && meant.has(formatPath(path))))
}

function withoutUnknown(input: Json | undefined, paths: readonly (readonly (string | number)[])[]): Json | undefined {
  const here = new Set(paths.filter((path) => path.length === 1).map((path) => String(path[0])))
  const below = (step: string | number) => paths.filter((path) => path.length > 1 && path[0] === step).map((path) => path.slice(1))
  if (Array.isArray(input)) return input.map((item: Json, index) => withoutUnknown(item, below(index)) ?? null)
  if (!isObject(input)) return input
  return objectOf(
    Object.entries(input)
      .filter(([key]) => !here.has(key))
      .map(([key, value]) => [key, withoutUnknown(value, below(key)) ?? null]),
  )
}

/** A map with an unknown key (a slip) is already told; what is missing in it because of the slip is not told again. */
function checkRelations(
  config: Partial<Record<Section, unknown>>,
  earlier: readonly Finding[],
  diskBytes: (dataDir: string) => number | undefined,
): readonly Finding[] {
  const dataDir = (config.gateway as Config['gateway'] | undefined)?.dataDir
  const slips = earlier
    .filter((finding) => finding.unknownKey === true)
    .map(({ path }) => path.slice(0, -1))
    .filter((path) => path.length > 0)
  return allRelations(dataDir === undefined ? undefined : diskBytes(dataDir))
    .filter(({ reads }) => reads.every((section) => Object.hasOwn(config, section)))
    .flatMap(({ check }) => [...check(config as Config)])
    .filter(({ path }) => !slips.some((slip) => isUnder(path, slip)))
}
