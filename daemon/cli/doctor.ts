/** `edgectl doctor`: one screen, the first thing to mend in the last line. */
import { InvalidArgumentError, type Command } from 'commander'
import { exitOf, firstToFix, gathered, GROUPS, type Check, type Group } from '../doctor/check.ts'
import type { GlobalOptions } from './ask.ts'
import { colour, printable } from './text.ts'

interface DoctorOptions {
  readonly only?: readonly Group[]
  readonly all?: boolean
  readonly timeout: number
}

export interface DoctorDocument {
  readonly schema: 1
  readonly at: string
  readonly exit: 0 | 1 | 2
  readonly fixFirst?: Check
  readonly checks: readonly Check[]
}

export function doctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('look at all that the gateway depends on, from causes to effects, and say what to mend first')
    .option('--only <groups>', `comma-separated: ${GROUPS.join(', ')}`, groups)
    .option('--all', 'show each check that is well, too')
    .option('--timeout <seconds>', 'for each step over the network', seconds, 5)
    .addHelpText(
      'after',
      '\nExit codes: 0 all is well, 1 something needs a look, 2 something is broken\n\nExample:\n  edgectl doctor --only kafka --all',
    )
    .action(async (options: DoctorOptions) => {
      const { config, json } = program.opts<GlobalOptions>()
      const { examine } = await import('../compose/doctor/examine.ts')
      const walk = examine({ configFile: config, timeoutMs: options.timeout * 1_000, ...(options.only && { only: options.only }) })
      const checks = json === true ? await gathered(walk) : await shown(walk, options.all === true)
      if (json === true) console.log(JSON.stringify(doctorDocument(checks), undefined, 2))
      process.exitCode = exitOf(checks)
    })
}

export function doctorDocument(checks: readonly Check[]): DoctorDocument {
  const fixFirst = firstToFix(checks)
  return { schema: 1, at: new Date().toISOString(), exit: exitOf(checks), ...(fixFirst && { fixFirst }), checks }
}

/** Each group as soon as it is known: a technician sees that it goes on. */
async function shown(walk: AsyncIterable<Check>, all: boolean): Promise<readonly Check[]> {
  const checks: Check[] = []
  let group: Check[] = []
  const flush = (): void => {
    const lines = groupView(group, all)
    if (lines.length > 0) console.log(lines.join('\n'))
    group = []
  }
  for await (const check of walk) {
    if (group[0] !== undefined && group[0].group !== check.group) flush()
    group.push(check)
    checks.push(check)
  }
  flush()
  console.log(lastLine(checks))
  return checks
}

const MARKS = { ok: ['ok', 'green'], warn: ['look', 'yellow'], fail: ['FAIL', 'red'], skipped: ['-', 'dim'] } as const

/** What is well is one line; so is what was skipped for the same reason. */
export function groupView(checks: readonly Check[], all: boolean): string[] {
  const [first] = checks
  if (first === undefined) return []
  if (all) return checks.flatMap(lines)
  const good = checks.filter(({ state }) => state === 'ok')
  const skipped = checks.filter(({ state, because }) => state === 'skipped' && because !== undefined)
  const bad = checks.filter(({ state }) => state === 'warn' || state === 'fail')
  const [only] = good
  const alone = checks.length === 1 ? only?.finding : `${only?.name}: ${only?.finding}`
  const words = good.length === 1 ? (alone ?? '') : `${good.length} checks`
  const rest = [...new Set(skipped.map(({ because }) => because))].map((because) => {
    const names = skipped.filter((check) => check.because === because)
    return row('skipped', first.group, `${names.length === 1 ? names[0]?.name : `${names.length} checks`}: because "${because}" failed`)
  })
  return [...(good.length > 0 ? [row('ok', first.group, words)] : []), ...bad.flatMap(lines), ...rest]
}

function lines({ group, name, state, finding, remedy }: Check): string[] {
  const line = row(state, group, name === group ? finding : `${name}: ${finding}`)
  return remedy === undefined ? [line] : [line, `${' '.repeat(15)}→ ${printable(remedy)}`]
}

function row(state: Check['state'], group: string, words: string): string {
  const [mark, hue] = MARKS[state]
  return `${colour(hue, mark.padEnd(4))} ${group.padEnd(9)} ${printable(words)}`
}

export function lastLine(checks: readonly Check[]): string {
  const first = firstToFix(checks)
  if (first === undefined) return colour('green', 'all is well')
  const what = first.name === first.group ? first.finding : `${first.name}: ${first.finding}`
  const way = first.remedy === undefined ? '' : ` → ${first.remedy}`
  return colour('bold', printable(`fix first: ${what}${way}`))
}

function groups(text: string): readonly Group[] {
  return text.split(',').map((word) => {
    const group = GROUPS.find((name) => name === word.trim())
    if (group === undefined) throw new InvalidArgumentError(`there is no group "${printable(word)}"; write ${GROUPS.join(', ')}.`)
    return group
  })
}

function seconds(text: string): number {
  const value = Number(text)
  if (!(value > 0 && value <= 60)) throw new InvalidArgumentError('write seconds, from 0.1 to 60.')
  return value
}
