import type { Command } from 'commander'
import { ask, type GlobalOptions } from './ask.ts'
import { show } from './figures.ts'
import { table } from './text.ts'

interface ConfigDocument {
  readonly afterRestart?: readonly string[]
  readonly values: readonly { readonly path: string; readonly value: unknown; readonly origin: string }[]
}

export function configCommands(program: Command): void {
  program
    .command('config')
    .description('the configuration in force')
    .command('show')
    .description('every value in force; secrets are never shown')
    .option('--origin', 'also say where each value was written')
    .addHelpText('after', '\nExample:\n  edgectl config show --origin')
    .action(async (options: { origin?: boolean }) => {
      const { document } = await ask(program.opts<GlobalOptions>(), '/config')
      const { values, afterRestart = [] } = document as ConfigDocument
      const rows = values.map(({ path, value, origin }) => [path, JSON.stringify(value), ...(options.origin === true ? [origin] : [])])
      const later = afterRestart.map((key) => `in force only after a restart: ${key}`)
      show(program, document, [table(options.origin === true ? ['key', 'value', 'origin'] : ['key', 'value'], rows), ...later].join('\n'))
    })
}
