/** `edgectl why …`: why something is as it is, in plain sentences. */
import type { Command } from 'commander'
import { ask, type GlobalOptions } from './ask.ts'
import { show } from './figures.ts'
import type { WhyDocument } from './patch-views.ts'
import { printable } from './text.ts'

export function whyCommands(program: Command): void {
  const why = program.command('why').description('why something is as it is, in plain words')
  whyPatch(program, why)
}

function whyPatch(program: Command, why: Command): void {
  why
    .command('patch <id>')
    .description('why this patch is where it is on this box')
    .addHelpText('after', '\nExample:\n  edgectl why patch 2026-11-raise-limits')
    .action(async (id: string) => {
      const { document } = await ask(program.opts<GlobalOptions>(), `/patches/${encodeURIComponent(id)}/why`)
      show(program, document, printable((document as WhyDocument).sentence))
    })
}
