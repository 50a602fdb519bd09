/** Patches on this box: what stands, what waits and why, what has run, and a technician's hold. */
import { userInfo } from 'node:os'
import { InvalidArgumentError, type Command } from 'commander'
import { ask, command, type GlobalOptions } from './ask.ts'
import { show } from './figures.ts'
import { brokenView, historyView, holdView, locksView, patchesView } from './patch-views.ts'
import type { BrokenDocument, HistoryDocument, HoldDocument, LocksDocument, PatchesDocument } from './patch-views.ts'

export function boxPatchCommands(program: Command): void {
  patchesCommand(program)
  historyCommand(program)
  lockCommands(program)
  holdCommand(program)
}

function patchesCommand(program: Command): void {
  program
    .command('patches')
    .description('every patch that this box knows: its state here, what it waits for, and whether it is in force')
    .addHelpText('after', `\nExample:\n  edgectl patches --json | jq '.patches[] | select(.inForce)'`)
    .action(async () => {
      const { document } = await ask(program.opts<GlobalOptions>(), '/patches')
      show(program, document, patchesView(document as PatchesDocument))
    })
}

function historyCommand(program: Command): void {
  program
    .command('history')
    .description('patches that ran on this box, the newest first: when, how it ended, why, and how long it took')
    .option('--limit <n>', 'how many; at most 200 are kept', whole, 20)
    .addHelpText('after', '\nExample:\n  edgectl history --limit 5')
    .action(async ({ limit }: { limit: number }) => {
      const { document } = await ask(program.opts<GlobalOptions>(), `/history?limit=${limit}`)
      show(program, document, historyView(document as HistoryDocument))
    })
}

function lockCommands(program: Command): void {
  const lock = program.command('lock').description('locks under which boxes apply patches; they stand in etcd, and the daemon asks it')
  lock
    .command('ls', { isDefault: true })
    .description('who holds each lock, who waits, and how long the lease of each holder lasts if it is not renewed')
    .addHelpText('after', '\nExample:\n  edgectl lock ls')
    .action(async () => {
      const { document } = await ask(program.opts<GlobalOptions>(), '/locks')
      show(program, document, locksView(document as LocksDocument))
    })
  lock
    .command('break <lock>')
    .description('take a lock from its holder: name its scope, or the key of one entry; rollouts that use it pause')
    .requiredOption('--reason <text>', 'why; it is kept in etcd with your name')
    .addHelpText('after', '\nExample:\n  edgectl lock break plant-7 --reason "gw-2 was scrapped"')
    .action(async (target: string, { reason }: { reason: string }) => {
      const query = new URLSearchParams({ target, reason, by: whoami() })
      const document = await command(program.opts<GlobalOptions>(), `/locks/break?${query.toString()}`)
      show(program, document, brokenView(document as BrokenDocument))
    })
}

function holdCommand(program: Command): void {
  program
    .command('hold')
    .description('keep all patches from starting on this box for a time; alone it shows the hold. What runs already goes on')
    .option('--for <time>', 'how long, at most 30d', span)
    .option('--reason <text>', 'why, for those who wonder')
    .option('--clear', 'end it now')
    .addHelpText('after', '\nExamples:\n  edgectl hold --for 2h --reason "working on the press"\n  edgectl hold\n  edgectl hold --clear')
    .action((options: HoldOptions) => hold(program, options))
}

interface HoldOptions {
  readonly for?: string
  readonly reason?: string
  readonly clear?: boolean
}

async function hold(program: Command, options: HoldOptions): Promise<void> {
  const global = program.opts<GlobalOptions>()
  if (options.clear === true && options.for !== undefined) program.error('write either --for or --clear', { exitCode: 64 })
  if (options.reason !== undefined && options.for === undefined) program.error('--reason goes with --for', { exitCode: 64 })
  const document = await (options.clear === true
    ? command(global, `/hold/clear?${new URLSearchParams({ by: whoami() }).toString()}`)
    : options.for === undefined
      ? ask(global, '/hold').then((answer) => answer.document)
      : command(global, `/hold?${new URLSearchParams({ for: options.for, reason: options.reason ?? '', by: whoami() }).toString()}`))
  show(program, document, options.clear === true ? 'patches may start again' : holdView(document as HoldDocument))
}

function whoami(): string {
  return process.env['SUDO_USER'] ?? userInfo().username
}

function whole(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError('write a whole number from 1.')
  return value
}

function span(text: string): string {
  if (!/^\d+(\.\d+)?(ms|s|m|h|d)$/.test(text)) throw new InvalidArgumentError('write a time with its unit, such as 30m, 2h or 1d.')
  return text
}
