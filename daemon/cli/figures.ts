import type { Command } from 'commander'
import { duration } from '../health.ts'
import type { StatusDocument } from '../status.ts'
import { ask, type GlobalOptions } from './ask.ts'
import { ledgerView, type LedgerDocument } from './ledger-view.ts'
import { statusView } from './status-view.ts'
import { count, harmless, size, table } from './text.ts'

const VERDICT_EXIT = { ok: 0, starting: 0, stopping: 0, buffering: 1, degraded: 1, blocked: 2, stuck: 2 } as const
/** systemctl's code for a unit that does not run. */
const NOT_RUNNING = 3
const STUCK = 2

export function statusCommand(program: Command): void {
  program
    .command('status')
    .description('one screen: the verdict, what comes in, what goes out, what waits')
    .addHelpText('after', '\nExample:\n  edgectl status --json | jq .verdict')
    .action(async () => {
      const answer = await ask(program.opts<GlobalOptions>(), '/status')
      if (answer.live) show(program, answer.document, statusView(answer.document as StatusDocument))
      else show(program, answer.document, bufferView(answer.document as StoppedDocument))
      process.exitCode = answer.live ? VERDICT_EXIT[(answer.document as StatusDocument).verdict.state] : answer.silent ? STUCK : NOT_RUNNING
    })
}

export function bufferCommand(program: Command): void {
  program
    .command('buffer')
    .description('what waits for Kafka, per lane and epoch')
    .addHelpText('after', '\nExample:\n  edgectl buffer')
    .action(async () => {
      const answer = await ask(program.opts<GlobalOptions>(), '/buffer')
      show(program, answer.document, bufferView(answer.document as StoppedDocument))
    })
}

export function ledgerCommand(program: Command): void {
  program
    .command('ledger')
    .description('the account of every message: received = delivered + buffered + in flight + dead letters + shed + lost + exported')
    .option('--devices <n>', 'how many devices to list', '20')
    .addHelpText('after', '\nExample:\n  edgectl ledger --devices 5')
    .action(async (options: { devices: string }) => {
      const answer = await ask(program.opts<GlobalOptions>(), `/ledger?devices=${encodeURIComponent(options.devices)}`)
      const document = answer.document as LedgerDocument
      show(program, document, ledgerView(document))
      if (!document.equation.holds) process.exitCode = 1
    })
}

/** What `/buffer` says, and what the files say while the daemon is down. */
export interface StoppedDocument {
  readonly running: boolean
  /** There is a daemon, but it does not answer. */
  readonly silent?: boolean
  readonly lanes: Readonly<
    Record<
      string,
      {
        readonly messages: number
        readonly bytes: number
        readonly watermark: number
        readonly highest: number
        readonly oldestAgeSeconds?: number
      }
    >
  >
  readonly usedBytes: number
  readonly maxBytes?: number
  readonly deadLetters: number
  readonly epochs: readonly { readonly epoch: string; readonly createdAt: string; readonly lanes: readonly string[] }[]
}

const STOPPED = 'STOPPED: the daemon is not running'
const SILENT = 'STUCK: the daemon runs, but does not answer (journalctl -u edge-gateway; systemctl restart edge-gateway loses nothing)'

function bufferView(document: StoppedDocument): string {
  const limit = document.maxBytes === undefined ? '' : ` of ${size(document.maxBytes)}`
  const state = document.running ? '' : `${document.silent === true ? SILENT : STOPPED}; these figures are from its files\n`
  const lanes = table(
    ['lane', 'messages', 'payload', 'delivered up to', 'highest', 'oldest'],
    Object.entries(document.lanes).map(([name, lane]) => [
      name,
      lane.messages,
      size(lane.bytes),
      lane.watermark,
      lane.highest,
      age(lane.oldestAgeSeconds),
    ]),
  )
  const epochs = document.epochs
    .filter((epoch) => epoch.lanes.length > 0)
    .map((epoch) => `  epoch ${epoch.epoch} since ${epoch.createdAt}: ${epoch.lanes.join(', ')}`)
  return [`${state}buffer ${size(document.usedBytes)}${limit}, ${count(document.deadLetters)} dead letters`, '', lanes, '', ...epochs]
    .join('\n')
    .trimEnd()
}

function age(seconds: number | undefined): string {
  return seconds === undefined ? '-' : duration(seconds * 1_000)
}

export function show(program: Command, document: unknown, text: string): void {
  console.log(harmless(program.opts<GlobalOptions>().json === true ? JSON.stringify(document, undefined, 2) : text))
}
