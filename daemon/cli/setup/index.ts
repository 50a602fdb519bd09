/** `edgectl setup`: five questions, each answer tried at once, and a configuration at the end. */
import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { ControlClient } from '../../../adapters/control/client.ts'
import type { Json } from '../../../config/merge.ts'
import { ConfigError } from '../../../config/problem.ts'
import type { Settings } from '../../../config/settings.ts'
import type { Check } from '../../doctor/check.ts'
import { GatewayError } from '../../errors.ts'
import type { GlobalOptions } from '../ask.ts'
import { show } from '../figures.ts'
import { QUESTIONS, readAnswers, type Answers, type QuestionName } from './answers.ts'
import { ASK, TITLES } from './asking.ts'
import { checkLines, lookAtAnswer } from './live.ts'
import { Plan } from './plan.ts'
import { Secrets } from './secrets.ts'
import { GivenUp, Talk } from './talk.ts'

interface SetupOptions {
  readonly id?: string
  readonly listen?: string
  readonly connect?: string
  readonly kafka?: string
  readonly etcd?: string
  readonly page?: string
  readonly answers?: string
  readonly yes?: boolean
}

const HELP = `
Examples:
  sudo edgectl setup
  sudo edgectl setup --kafka kafka-1:9092,kafka-2:9092 --listen mqtt://[::]:1883 --yes
  sudo edgectl setup --answers box-7.yaml --yes --json

An answers file has the names of the questions; what it leaves out stays as it is:
  id: gw-007
  devices: { listen: "mqtt://[::]:1883", auth: password }   # or { connect: "mqtt://host:1883", username: gw, passwordFile: /path }
  kafka: { brokers: ["kafka-1:9092"], ca: /path, username: gw-007, passwordFile: /path }   # or none
  etcd: { endpoints: ["https://etcd-1:2379"], ca: /path, fleet: acme }                      # or none
  page: off                                                  # off, local or lan`

/** As a shell ends for Ctrl-C. */
const GIVEN_UP = 130

export function setupCommand(program: Command): void {
  program
    .command('setup')
    .description('set this box up: five questions, each answer tried at once; nothing is changed before the end')
    .option('--id <name>', 'the name of this box')
    .option('--listen <url>', 'devices connect to this box, at this address')
    .option('--connect <url>', 'devices connect to this broker, and the gateway is its client')
    .option('--kafka <brokers>', 'host:port, with commas between; or none')
    .option('--etcd <endpoints>', 'https://host:2379, with commas between; or none')
    .option('--page <where>', 'off, local or lan')
    .option('--answers <file>', 'the answers, in YAML or JSON')
    .option('--yes', 'ask nothing: write, also when a check fails (an offline site)')
    .addHelpText('after', HELP)
    .action((options: SetupOptions) => setup(program, options))
}

interface Outcome {
  readonly plan: Plan
  readonly secrets: Secrets
  readonly settings: Settings
  readonly checks: readonly Check[]
  readonly isAgreed: boolean
}

async function setup(program: Command, options: SetupOptions): Promise<void> {
  const { config, json } = program.opts<GlobalOptions>()
  const given = givenIn(options)
  const isTerminal = process.stdin.isTTY && process.stdout.isTTY && json !== true
  if (!isTerminal && Object.keys(given).length === 0)
    throw new GatewayError('rejected', 'this is no terminal, and there are no answers', {
      remedy: 'edgectl setup --answers FILE --yes; edgectl setup --help shows a file',
    })
  const plan = new Plan(config)
  const secrets = new Secrets()
  try {
    const outcome =
      isTerminal && options.yes !== true ? await inTalk(plan, secrets, given) : await byItself(plan, secrets, given, options.yes === true)
    await finish(program, outcome)
  } catch (error) {
    if (!(error instanceof GivenUp)) throw error
    console.error(`\n${error.message}`)
    process.exitCode = GIVEN_UP
  } finally {
    secrets.forget()
  }
}

function givenIn(options: SetupOptions): Answers {
  const { id, listen, connect, kafka, etcd, page, answers } = options
  const fromFile = answers === undefined ? {} : readAnswers(answers, readFileSync(answers, 'utf8'))
  const list = (text: string): Json => (text === 'none' ? 'none' : text.split(','))
  const devices = listen !== undefined ? { listen } : connect !== undefined ? { connect } : undefined
  return {
    ...fromFile,
    ...(id !== undefined && { id }),
    ...(devices !== undefined && { devices }),
    ...(kafka !== undefined && { kafka: list(kafka) }),
    ...(etcd !== undefined && { etcd: list(etcd) }),
    ...(page !== undefined && { page }),
  }
}

/** Without a person: what is not given stays as it is, and what does not work is told. */
async function byItself(plan: Plan, secrets: Secrets, given: Answers, isAgreed: boolean): Promise<Outcome> {
  let settings = plan.place.now
  for (const name of QUESTIONS) {
    const answer = given[name]
    if (answer !== undefined) settings = plan.answer(name, answer).settings
  }
  await secrets.complete(settings)
  const asked = QUESTIONS.filter((name) => given[name] !== undefined)
  const checks = (await Promise.all(asked.map((name) => lookAtAnswer(name, secrets.inPlace(settings))))).flat()
  return { plan, secrets, settings, checks, isAgreed }
}

async function inTalk(plan: Plan, secrets: Secrets, given: Answers): Promise<Outcome> {
  const talk = new Talk(process.stdout)
  try {
    talk.say('Five questions. Enter keeps what stands in brackets; Ctrl-C leaves all as it was.')
    let settings = plan.place.now
    const checks: Check[] = []
    for (const name of QUESTIONS) {
      const one = await oneQuestion(name, { plan, secrets, talk }, given[name])
      settings = one.settings
      checks.push(...one.checks)
    }
    await secrets.complete(settings)
    talk.say(`\n${plan.path} will be:\n\n${indented(plan.text)}`)
    for (const path of secrets.paths) talk.say(`and the file ${path}`)
    const isAgreed = !plan.isNew && secrets.paths.length === 0 ? true : await talk.yes('\nWrite it?', true)
    return { plan, secrets, settings, checks, isAgreed }
  } finally {
    talk.close()
  }
}

type Tools = Pick<Outcome, 'plan' | 'secrets'> & { readonly talk: Talk }

async function oneQuestion(name: QuestionName, tools: Tools, given: Json | undefined): Promise<Pick<Outcome, 'settings' | 'checks'>> {
  const { plan, secrets, talk } = tools
  talk.say(`\n${TITLES[name]}`)
  for (let first = given; ; first = undefined) {
    try {
      const { settings, warnings } = plan.answer(name, first ?? (await ASK[name]({ ...plan.place, talk, secrets })))
      const checks = await lookAtAnswer(name, secrets.inPlace(settings))
      for (const warning of warnings) talk.say(`  note    ${warning}`)
      if (checks.length > 0) talk.say(checkLines(checks))
      if (!checks.some(({ state }) => state === 'fail')) return { settings, checks }
      if (await talk.yes('Keep this answer all the same (an offline site)?', false)) return { settings, checks }
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      talk.say(error.message)
    }
  }
}

async function finish(program: Command, { plan, secrets, settings, checks, isAgreed }: Outcome): Promise<void> {
  const failed = checks.some(({ state }) => state === 'fail')
  const isTold = process.stdout.isTTY && program.opts<GlobalOptions>().json !== true
  const found = isTold || checks.length === 0 ? [] : [checkLines(checks)]
  if (!isAgreed) {
    const what = `nothing was written; this would be ${plan.path}:\n\n${indented(plan.text)}`
    show(program, { schema: 1, written: false, text: plan.text, checks }, [...found, what, 'add --yes to write it'].join('\n'))
    process.exitCode = 1
    return
  }
  const isNew = plan.isNew
  secrets.save()
  const backup = isNew ? plan.write(stampNow()) : undefined
  const next = plan.next(settings, await isRunning(settings))
  const words = [
    ...found,
    isNew ? `${plan.path} is written${backup === undefined ? '' : `; the one before is ${backup}`}` : `${plan.path} says all this already`,
    ...secrets.toSay,
    'next:',
    ...next.map((line) => `  ${line}`),
  ]
  show(
    program,
    { schema: 1, written: isNew, file: plan.path, backup, files: secrets.paths, notes: secrets.toSay, checks, next },
    words.join('\n'),
  )
  if (failed) process.exitCode = 1
}

function stampNow(): string {
  return new Date().toISOString().replaceAll(/[-:]|\..*/g, '')
}

async function isRunning({ control }: Settings): Promise<boolean> {
  const client = new ControlClient(control.socket)
  try {
    await client.get('/status')
    return true
  } catch {
    // Down or stuck: it must be started anew, in either case.
    return false
  } finally {
    await client.close()
  }
}

function indented(text: string): string {
  return text.replaceAll(/^(?=.)/gm, '    ')
}
