import type { Command } from 'commander'
import { checkCommand } from './check.ts'
import { keygenCommand } from './keygen.ts'
import { signCommand } from './sign.ts'

/** `edgectl patch …`: each subcommand has a file of its own. */
export function patchCommands(program: Command): void {
  const patch = program.command('patch').description('make patches, and roll them out')
  keygenCommand(program, patch)
  checkCommand(program, patch)
  signCommand(program, patch)
}
