import { userInfo } from 'node:os'
import { InvalidArgumentError, type Command } from 'commander'
import { ask, command, type GlobalOptions } from './ask.ts'
import { show } from './figures.ts'
import { overrideLine, type OverrideDocument } from './override-line.ts'
import { printable, table } from './text.ts'

interface ConfigDocument {
  readonly afterRestart?: readonly string[]
  readonly leftOut?: readonly { readonly label: string; readonly reason: string }[]
  readonly overrides?: readonly OverrideDocument[]
  readonly values: readonly { readonly path: string; readonly value: unknown; readonly origin: string }[]
}

interface OverrideOptions {
  readonly for?: string
  readonly reason?: string
  readonly list?: boolean
  readonly clear?: string
}

const EXAMPLES = `
Examples:
  edgectl config override limits.perDevice.messagesPerSecond 500 --for 8h --reason "commissioning line 3"
  edgectl config override --list
  edgectl config override --clear limits.perDevice.messagesPerSecond

Keys that only the files set (gateway.id, gateway.dataDir, control, etcd, patches, kafka.prefix) are refused. After a
reboot of a box whose clock is not right yet, an override has ended.`

export function configCommands(program: Command): void {
  const config = program.command('config').description('the configuration in force, and overrides of it for a time')
  config
    .command('show')
    .description('every value in force; secrets are never shown')
    .option('--origin', 'also say where each value was written: file and line, patch, override or default')
    .addHelpText('after', '\nExample:\n  edgectl config show --origin')
    .action(async (options: { origin?: boolean }) => {
      const { document } = await ask(program.opts<GlobalOptions>(), '/config')
      show(program, document, configView(document as ConfigDocument, options.origin === true))
    })
  config
    .command('override [key] [value]')
    .description('set a value for a time; the value is checked, and in force at once, or refused')
    .option('--for <time>', 'how long, at most 30d', span)
    .option('--reason <text>', 'why, for those who wonder')
    .option('--list', 'show the overrides in force')
    .option('--clear <key>', 'end one now')
    .addHelpText('after', EXAMPLES)
    .action((key: string | undefined, value: string | undefined, options: OverrideOptions) => override(program, key, value, options))
}

function configView({ values, afterRestart = [], leftOut = [] }: ConfigDocument, origin: boolean): string {
  const rows = values.map(({ path, value, origin: written }) => [path, JSON.stringify(value), ...(origin ? [written] : [])])
  const later = afterRestart.map((key) => `in force only after a restart: ${key}`)
  const out = leftOut.map(({ label, reason }) => printable(`not in force: ${label}: ${reason.replaceAll('\n', '; ')}`))
  return [table(origin ? ['key', 'value', 'origin'] : ['key', 'value'], rows), ...later, ...out].join('\n')
}

async function override(program: Command, key: string | undefined, value: string | undefined, options: OverrideOptions): Promise<void> {
  const global = program.opts<GlobalOptions>()
  if (options.list === true) {
    const { document } = await ask(global, '/config/overrides')
    const { overrides = [] } = document as ConfigDocument
    return show(program, document, overrides.length === 0 ? 'no overrides' : overrides.map(overrideLine).join('\n'))
  }
  const by = process.env['SUDO_USER'] ?? userInfo().username
  if (options.clear !== undefined) {
    const document = await command(global, `/config/override/clear?${new URLSearchParams({ key: options.clear, by }).toString()}`)
    return show(program, document, `${options.clear} is as the files and patches say again`)
  }
  if (key === undefined || value === undefined || options.for === undefined)
    program.error('write: edgectl config override KEY VALUE --for 8h', { exitCode: 64 })
  const query = new URLSearchParams({ key, value, for: options.for, reason: options.reason ?? '', by })
  const document = await command(global, `/config/override?${query.toString()}`)
  const { override: made } = document as { override?: OverrideDocument }
  show(program, document, made === undefined ? `${key} was set` : `in force: ${overrideLine(made)}`)
}

function span(text: string): string {
  if (!/^\d+(\.\d+)?(ms|s|m|h|d)$/.test(text)) throw new InvalidArgumentError('write a time with its unit, such as 30m, 8h or 2d.')
  return text
}
