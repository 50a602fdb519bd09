import { accessSync, constants, existsSync, statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { basename, dirname, join, resolve } from 'node:path'
import type { Command } from 'commander'
import { parseSize } from './sizes.ts'
import { GatewayError } from '../../errors.ts'
import type { ExportFilter, ExportNote } from '../../move/export-desk.ts'
import type { ExportHead } from '../../move/file.ts'
import { LANES, type Lane } from '../../ports.ts'
import { load, type GlobalOptions } from '../ask.ts'
import { show } from '../figures.ts'
import { count, printable, size } from '../text.ts'
import { exportSource, type ExportSource } from './export-source.ts'
import { Progress } from './progress.ts'
import { readExport } from './read-file.ts'
import { ExportWriter } from './write-file.ts'

interface ExportOptions {
  readonly out: string
  readonly lane: readonly string[]
  readonly epoch: readonly string[]
  readonly partSize: string
}

const ALIVE_MS = 20_000
const LOOK_MS = 200

export function exportCommand(program: Command): void {
  const several = (value: string, before: readonly string[]): string[] => [...before, value]
  program
    .command('export')
    .description('move what waits in the buffer to a file, for another box to deliver; works also when the daemon is down')
    .requiredOption('--out <file|folder>', 'where to; a folder (the stick) gets a file named after the box and the time')
    .option('--all', 'all that waits: the default')
    .option('--lane <name>', 'only this lane; can be given several times', several, [])
    .option('--epoch <id>', 'only this epoch, as edgectl buffer names it; can be given several times', several, [])
    .option('--part-size <size>', 'begin another file when one has this size; FAT sticks take 4 GiB', '3900MiB')
    .addHelpText('after', HELP)
    .action((options: ExportOptions) => run(program, options))
}

const HELP = `
The payloads are in the file, and may be confidential. The messages leave the buffer only after the file was read
back from the medium, and the ledger counts them as exported. Dead letters stay: Kafka refused them for good.

Then, on any box that reaches Kafka:  edgectl import FILE

Example:
  edgectl export --out /media/stick
  edgectl export --out /media/stick --lane urgent`

async function run(program: Command, options: ExportOptions): Promise<void> {
  const { settings } = load(program.opts<GlobalOptions>())
  const filter = filterOf(options)
  const partBytes = parseSize('--part-size', options.partSize)
  const place = placeOf(options.out)
  const source = await exportSource(settings)
  try {
    const head = await source.begin(filter)
    const note = await carryOut(source, head, place, partBytes)
    const text = `${count(note.messages)} messages (${size(note.bytes)} of payload) are in\n${note.files.map((file) => `  ${printable(file)}`).join('\n')}\nand left the buffer. Deliver them from a box that reaches Kafka: edgectl import ${printable(note.files[0] ?? '')}`
    show(program, { schema: 1, ...note }, text)
  } finally {
    await source.close()
  }
}

async function carryOut(source: ExportSource, head: ExportHead, place: Place, partBytes: number): Promise<ExportNote> {
  const writer = new ExportWriter(head, place(head), partBytes)
  const alive = setInterval(() => void source.alive(head.id).catch(() => undefined), ALIVE_MS)
  let taken = false
  try {
    const sum = await write(source, head, writer)
    const read = await verify(writer, head, sum.messages)
    const files = await writer.publish()
    await source.take(head.id, { ...sum, files: files.map((file) => resolve(file)), sha256: read })
    taken = true
    return await untilMoved(source, head.id)
  } catch (error) {
    if (!taken) {
      await writer.discard()
      await source.cancel(head.id).catch(() => undefined)
    }
    throw error
  } finally {
    clearInterval(alive)
  }
}

async function write(source: ExportSource, head: ExportHead, writer: ExportWriter): Promise<ExportWriter['sum']> {
  const progress = new Progress('written')
  for await (const text of source.lines(head.id)) {
    await writer.add(text)
    progress.tell(writer.sum.messages)
  }
  await writer.finish()
  progress.end()
  return writer.sum
}

/** Returns the digest of the last part. */
async function verify(writer: ExportWriter, head: ExportHead, messages: number): Promise<string> {
  const progress = new Progress('read back')
  let seen = 0
  const read = await readExport(writer.partialName(1), () => progress.tell((seen += 1)), writer.partialName)
  progress.end()
  if (read.head.id === head.id && read.sum.messages === messages) return read.sha256
  throw new GatewayError('rejected', 'the medium gave back something else than was written', {
    remedy: 'nothing left the buffer; use another stick',
  })
}

/** The decision is durable: whatever happens now, the rows leave. */
async function untilMoved(source: ExportSource, id: string): Promise<ExportNote> {
  for (;;) {
    const note = await source.note(id)
    if (note?.state === 'done') return note
    await sleep(LOOK_MS)
  }
}

function filterOf({ lane, epoch }: ExportOptions): ExportFilter {
  const lanes = lane.map((name): Lane => {
    const known = LANES.find((one) => one === name)
    if (known !== undefined) return known
    throw new GatewayError('rejected', `there is no lane ${printable(name)}`, { remedy: `the lanes are ${LANES.join(', ')}` })
  })
  return { lanes, epochs: epoch }
}

type Place = (head: ExportHead) => string

/** Looked at before anything begins: most mistakes are made here. */
function placeOf(out: string): Place {
  if (isFolder(out)) {
    assertWritable(out)
    return ({ gateway, exportedAt, id }) => join(out, `${gateway}.${exportedAt.replaceAll(/[-:]|\.\d+/g, '')}.${id.slice(0, 8)}.ndjson`)
  }
  if (!basename(out).endsWith('.ndjson'))
    throw new GatewayError('rejected', `${printable(out)} is neither a folder nor a name that ends with .ndjson`, {
      remedy: 'mount the stick and name its folder, for example --out /media/stick',
    })
  if (!isFolder(dirname(out)))
    throw new GatewayError('rejected', `there is no folder ${printable(dirname(out))}`, {
      remedy: 'mount the stick; lsblk shows where it is',
    })
  if (existsSync(out))
    throw new GatewayError('rejected', `${printable(out)} is there already`, { remedy: 'choose another name with --out' })
  assertWritable(dirname(out))
  return () => out
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true
}

function assertWritable(folder: string): void {
  try {
    accessSync(folder, constants.W_OK)
  } catch (cause) {
    const remedy = 'nothing left the buffer; run it with sudo, and look whether the stick is mounted read-only (mount)'
    throw new GatewayError('rejected', `${printable(folder)} can't be written`, { cause, remedy })
  }
}
