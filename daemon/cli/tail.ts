/** `edgectl tail DEVICE`: its messages as they come, until Ctrl-C or the daemon's stop. */
import { once } from 'node:events'
import type { Command } from 'commander'
import { connect, type GlobalOptions } from './ask.ts'
import type { TailLine } from './device-documents.ts'
import { colour, count, printable, size } from './text.ts'

export function tailCommand(program: Command): void {
  program
    .command('tail <device>')
    .description('messages of a device as they are accepted or shed, until Ctrl-C; a pattern such as "cam-*" shows several')
    .option('--stream <name>', 'only this stream')
    .option('--payload', 'print payloads (they may be confidential)')
    .addHelpText('after', '\nExample:\n  edgectl tail cam-7 --stream app')
    .action(async (device: string, { stream, payload }: { stream?: string; payload?: boolean }) => {
      const options = program.opts<GlobalOptions>()
      const query = new URLSearchParams({ device })
      if (stream !== undefined) query.set('stream', stream)
      if (payload === true) query.set('payload', '1')
      await follow(options, `/tail?${query.toString()}`)
    })
}

/** Ends well when the daemon stops: that is no fault of the tail. */
async function follow(options: GlobalOptions, path: string): Promise<void> {
  const { client } = await connect(options)
  let ended = false
  const end = (): void => {
    ended = true
    void client.close()
  }
  process.once('SIGINT', end)
  process.once('SIGTERM', end)
  process.stdout.on('error', end)
  try {
    for await (const line of client.stream(path)) {
      const text = options.json === true ? raw(line) : lineView(JSON.parse(line) as TailLine)
      if (text !== undefined && !process.stdout.write(`${text}\n`)) await once(process.stdout, 'drain')
    }
    console.error('the daemon ended the tail: it stops, or has stopped')
  } catch (error) {
    if (!ended) throw error
  } finally {
    await client.close()
  }
}

function raw(line: string): string | undefined {
  return line.startsWith('{"alive"') ? undefined : line
}

export function lineView(line: TailLine): string | undefined {
  if (line.alive === true) return undefined
  if (line.skipped !== undefined) return colour('yellow', `… ${count(line.skipped)} skipped: this terminal is slower than the devices`)
  const { at = '', device = '', stream = '', topic = '', bytes = 0, verdict = '', limitedBy } = line
  const limit = limitedBy === undefined ? '' : `, ${limitedBy} limit`
  const marks = [line.will === true ? ' last will' : '', line.retained === true ? ' retained' : ''].join('')
  const head = printable(`${clock(at)} ${device} ${stream} ${topic} ${size(bytes)} ${verdict}${limit}${marks}`)
  if (line.payloadBase64 === undefined) return head
  const payload = printable(Buffer.from(line.payloadBase64, 'base64').toString('utf8'))
  return `${head}\n  ${payload}${line.payloadCut === true ? '… (cut)' : ''}`
}

/** `14:02:07.123`, the box's local time. */
function clock(iso: string): string {
  const at = new Date(iso)
  const two = (part: number): string => String(part).padStart(2, '0')
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, '0')}`
}
