import type { Command } from 'commander'
import { cancelCommand, rollbackCommand } from './cancel.ts'
import { checkCommand } from './check.ts'
import { keygenCommand } from './keygen.ts'
import { pauseCommand } from './pause.ts'
import { pushCommand } from './push.ts'
import { resumeCommand, retryCommand } from './resume.ts'
import { signCommand } from './sign.ts'
import { statusCommand } from './status.ts'

/** `edgectl patch …`: each subcommand has a file of its own. */
export function patchCommands(program: Command): void {
  const patch = program.command('patch').description('make patches, and roll them out')
  keygenCommand(program, patch)
  checkCommand(program, patch)
  signCommand(program, patch)
  pushCommand(program, patch)
  statusCommand(program, patch)
  pauseCommand(program, patch)
  resumeCommand(program, patch)
  cancelCommand(program, patch)
  retryCommand(program, patch)
  rollbackCommand(program, patch)
}
