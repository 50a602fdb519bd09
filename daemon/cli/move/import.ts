import { statSync } from 'node:fs'
import type { Command } from 'commander'
import { ControlClient } from '../../../adapters/control/client.ts'
import { GatewayError } from '../../errors.ts'
import type { ImportFigures } from '../../move/figures.ts'
import { ask, command, load, type GlobalOptions } from '../ask.ts'
import { show } from '../figures.ts'
import { count, printable, size } from '../text.ts'
import { importsView } from './import-view.ts'
import { Progress } from './progress.ts'
import { messagesOf, readExport, type ReadExport } from './read-file.ts'

const PIECE_CHARACTERS = 512 * 1024

export function importCommands(program: Command): void {
  program
    .command('import <file>')
    .description('take in what another box exported, and deliver it from here; the whole file is checked first')
    .option('--check', 'only check the file')
    .addHelpText('after', HELP)
    .action((file: string, options: { check?: boolean }) => run(program, file, options.check === true))
  const group = program.command('imports').description('exports of other boxes that this one delivers')
  group
    .command('list', { isDefault: true })
    .description('what is left of them')
    .addHelpText('after', '\nExample:\n  edgectl imports list')
    .action(async () => {
      const { document } = await ask(program.opts<GlobalOptions>(), '/imports')
      show(program, document, importsView((document as { imports: readonly ImportFigures[] }).imports))
    })
  for (const [name, description, done] of ACTIONS) {
    group
      .command(`${name} <id>`)
      .description(description)
      .addHelpText('after', `\nExample:\n  edgectl imports ${name} 0123456789abcdef`)
      .action(async (id: string) => {
        const document = (await command(program.opts<GlobalOptions>(), `/imports/${encodeURIComponent(id)}/${name}`)) as {
          messages: number
        }
        show(program, document, `${count(document.messages)} messages ${done}`)
      })
  }
}

const ACTIONS = [
  ['retry', 'try its dead letters again, once the cause is mended', 'are sent again'],
  ['drop', 'give its dead letters up', 'were given up'],
] as const

const HELP = `
Name the first file; further parts (NAME.2.ndjson…) are found beside it. Each message reaches Kafka once, under the
name of the box that it came from, also when the file is imported twice, on two boxes, or on the box itself. If that
box is online, the two take turns at Kafka until the import is delivered. Older messages from a stick can reach Kafka
after newer ones that their box has delivered itself: sort by the header ts where that matters.

Kafka must allow this box what it allows the other one:  edgectl kafka setup --print --import-for GATEWAY

Example:
  edgectl import /media/stick/gw-007.20261124T194500Z.0123abcd.ndjson`

async function run(program: Command, file: string, checkOnly: boolean): Promise<void> {
  const { settings } = load(program.opts<GlobalOptions>())
  if (statSync(file, { throwIfNoEntry: false })?.isDirectory() === true)
    throw new GatewayError('rejected', `${printable(file)} is a folder`, { remedy: 'name the first file of the export, NAME.ndjson' })
  const progress = new Progress('checked')
  let seen = 0
  const read = await readExport(file, () => progress.tell((seen += 1)))
  progress.end()
  if (checkOnly) return show(program, documentOf(read), `${view(read)}: whole and undamaged`)
  const client = new ControlClient(settings.control.socket)
  try {
    await send(client, read)
  } finally {
    await client.close()
  }
  const hint = settings.kafka === undefined ? '\nNo Kafka is named on this box: they wait here until one is.' : ''
  show(program, documentOf(read), `${view(read)}: taken in, and delivered from now on; edgectl imports shows how much is left${hint}`)
}

async function send(client: ControlClient, { head, sum, files }: ReadExport): Promise<void> {
  const { key } = (await client.post('/imports', JSON.stringify({ head, sum }))) as { key: string }
  const progress = new Progress('taken in')
  let lines: string[] = []
  let characters = 0
  let sent = 0
  const flush = async (): Promise<void> => {
    const body = lines.join('\n')
    lines = []
    characters = 0
    await client.post(`/imports/${key}/lines`, body)
    progress.tell(sent)
  }
  try {
    for await (const line of messagesOf(files)) {
      lines.push(line)
      characters += line.length
      sent += 1
      if (characters >= PIECE_CHARACTERS) await flush()
    }
    if (lines.length > 0) await flush()
    await client.post(`/imports/${key}/commit`, JSON.stringify(sum))
  } catch (error) {
    await client.post(`/imports/${key}/cancel`).catch(() => undefined)
    throw error
  }
  progress.end()
}

function view({ head, sum }: ReadExport): string {
  return `${count(sum.messages)} messages (${size(sum.bytes)} of payload) of ${printable(head.gateway)}, exported ${printable(head.exportedAt)}`
}

function documentOf({ head, sum, files }: ReadExport): object {
  const { id, gateway, exportedAt } = head
  return { schema: 1, id, gateway, exportedAt, files, ...sum }
}
