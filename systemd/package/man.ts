/** Manual pages of the commands, from the commands themselves. */
import type { Command } from 'commander'
import { heading, item, roff, section, verbatim } from './roff.ts'

export interface Manual {
  readonly section: 1 | 8
  readonly version: string
  /** YYYY-MM-DD */
  readonly day: string
  readonly seeAlso: readonly string[]
}

const FILES: readonly (readonly [string, string])[] = [
  ['/etc/edge-gateway/config.yaml', 'The configuration; files in config.d beside it are merged over it. See edge-gateway.yaml(5).'],
  ['/var/lib/edge-gateway', 'The buffer and the journal.'],
  ['/usr/share/doc/edge-gateway', 'README, an example with every key, licences, the list of what is inside (SBOM).'],
]

export function manualPage(program: Command, { section: number, version, day, seeAlso }: Manual): string {
  const name = program.name()
  return [
    heading(name.toUpperCase(), number, day, version),
    section('NAME', `${roff(name)} \\- ${roff(lowerFirst(program.description()))}\n`),
    section('SYNOPSIS', `.B ${roff(name)}\n${roff(program.usage())}\n`),
    section('OPTIONS', optionItems(program)),
    section('COMMANDS', leaves(program).map(commandText).join('')),
    ...remarks(program).map(({ title, text }) => section(title.toUpperCase(), verbatim(text))),
    section('FILES', FILES.map(([path, text]) => item(path, text)).join('')),
    section('SEE ALSO', `${roff(seeAlso.join(', '))}\n`),
  ].join('')
}

/** The commands that do something, in the order of the help. */
export function leaves(command: Command): Command[] {
  const own = command
    .createHelp()
    .visibleCommands(command)
    .filter((sub) => sub.name() !== 'help')
  return own.flatMap((sub) => [sub, ...leaves(sub)])
}

/** `edgectl patch sign`. */
export function fullName(command: Command): string {
  return command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`
}

function commandText(command: Command): string {
  const words = command.registeredArguments.map((argument) => (argument.required ? `<${argument.name()}>` : `[${argument.name()}]`))
  const texts = remarks(command).map(({ title, text }) => `.PP\n${roff(title)}:\n${verbatim(text)}`)
  return `.SS "${roff([fullName(command), ...words].join(' '))}"\n${roff(command.description())}\n${optionItems(command)}${texts.join('')}`
}

function optionItems(command: Command): string {
  const options = command.createHelp().visibleOptions(command)
  return options.map(({ flags, description }) => item(flags, description)).join('')
}

interface Remark {
  readonly title: string
  readonly text: string
}

/** What the help says after its lists: exit codes, examples. Each part begins with a line that ends with a colon. */
function remarks(command: Command): Remark[] {
  let help = ''
  command.configureOutput({ writeOut: (text) => (help += text), getOutHelpWidth: () => 100 })
  command.outputHelp()
  const after = help.slice(command.helpInformation().length)
  return [...after.matchAll(/^(\w[^\n]*):\n((?: .*\n?|\n)+)/gm)].map(([, title = '', text = '']) => ({ title, text: text.trimEnd() }))
}

function lowerFirst(text: string): string {
  return text.slice(0, 1).toLowerCase() + text.slice(1)
}
