import type { Command } from 'commander'
import { ask, command, type GlobalOptions } from './ask.ts'
import { show } from './figures.ts'
import { printable, table } from './text.ts'

/** One dead letter as the control socket shows it; the payload only where it was asked for. */
export interface DeadLetterDocument {
  readonly id: number
  readonly device: string
  readonly topic: string
  readonly lane: string
  readonly position: string
  readonly at: string
  readonly reason: string
  readonly bytes: number
  readonly payloadBase64?: string
}

export function deadLetterCommands(program: Command): void {
  const group = program.command('dead-letters').description('records that Kafka refused for good, kept aside on this box')
  group
    .command('list', { isDefault: true })
    .description('the oldest first')
    .option('--limit <n>', 'how many', '50')
    .addHelpText('after', '\nExample:\n  edgectl dead-letters list --limit 5')
    .action(async (options: { limit: string }) => {
      const { document } = await ask(program.opts<GlobalOptions>(), `/dead-letters?limit=${encodeURIComponent(options.limit)}`)
      show(program, document, listView((document as { deadLetters: DeadLetterDocument[] }).deadLetters))
    })
  group
    .command('show <id>')
    .description('one of them; --payload also prints its payload')
    .option('--payload', 'print the payload (it may be confidential)')
    .addHelpText('after', '\nExample:\n  edgectl dead-letters show 7 --payload')
    .action(async (id: string, options: { payload?: boolean }) => {
      const { document } = await ask(
        program.opts<GlobalOptions>(),
        `/dead-letters/${encodeURIComponent(id)}${options.payload === true ? '?payload=1' : ''}`,
      )
      show(program, document, oneView(document as DeadLetterDocument))
    })
  for (const [name, description] of ACTIONS) {
    group
      .command(`${name} <id>`)
      .description(description)
      .addHelpText('after', `\nExample:\n  edgectl dead-letters ${name} 7`)
      .action(async (id: string) => {
        const document = await command(program.opts<GlobalOptions>(), `/dead-letters/${encodeURIComponent(id)}/${name}`)
        show(program, document, `dead letter ${printable(id)}: ${name === 'retry' ? 'back in its lane' : 'dropped, and counted'}`)
      })
  }
}

const ACTIONS = [
  ['retry', 'put it back into its lane, with a new position'],
  ['drop', 'give it up; the ledger counts it as shed'],
] as const

function listView(letters: readonly DeadLetterDocument[]): string {
  if (letters.length === 0) return 'no dead letters'
  return table(
    ['id', 'at', 'device', 'topic', 'bytes', 'reason'],
    letters.map((letter) => [String(letter.id), letter.at, letter.device, letter.topic, letter.bytes, letter.reason]),
  )
}

function oneView(letter: DeadLetterDocument): string {
  const { payloadBase64, ...facts } = letter
  const lines = Object.entries(facts).map(([name, value]) => `${name.padEnd(9)}${printable(String(value))}`)
  if (payloadBase64 !== undefined) lines.push('', printable(Buffer.from(payloadBase64, 'base64').toString('utf8')))
  return lines.join('\n')
}
