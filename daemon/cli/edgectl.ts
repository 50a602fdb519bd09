import { Command } from 'commander'
import { STANDARD_FILE } from '../../config/host.ts'
import { bufferCommand, ledgerCommand, statusCommand } from './figures.ts'
import { deadLetterCommands } from './dead-letters.ts'
import { deviceCommands } from './device/index.ts'
import { configCommands } from './config-show.ts'
import { kafkaCommands } from './kafka-setup.ts'
import type { GlobalOptions } from './ask.ts'
import { watchEndings } from './ending.ts'
import { report } from './failure.ts'
import { devicesCommand } from './devices.ts'
import { fleetCommand } from './fleet.ts'
import { patchCommands } from './patch/index.ts'
import { boxPatchCommands } from './patches.ts'
import { tailCommand } from './tail.ts'
import { topCommand } from './top.ts'
import { whyCommands } from './why.ts'
import { backupCommand } from './move/backup.ts'
import { doctorCommand } from './doctor.ts'
import { bundleCommand } from './support-bundle.ts'
import { exportCommand } from './move/export.ts'
import { importCommands } from './move/import.ts'
import { verifyCommand } from './move/verify.ts'
import { setupCommand } from './setup/index.ts'
import { VERSION } from '../version.ts'

const EXIT_CODES = `
Exit codes:
  0  all is well, or the command did what was asked
  1  works, and needs a look (buffering, degraded); or the request was refused
  2  blocked or stuck
  3  nobody answers: the daemon is not running, or etcd or Kafka can't be reached
  64 wrong usage   74 a disk or file failed   77 no permission   78 the configuration is invalid`

/** The technician's command line. Every command takes --json; none needs the daemon except where it says so. */
export async function edgectl(argv: readonly string[]): Promise<void> {
  watchEndings()
  const program = edgectlProgram()
  try {
    await program.parseAsync([...argv])
  } catch (error) {
    process.exitCode = report(error, program.opts<GlobalOptions>().json)
  }
}

/** All commands, not yet run. */
export function edgectlProgram(): Command {
  const program = new Command('edgectl')
    .description('Looks at the edge gateway of this box, and acts on it')
    .version(VERSION)
    .option('--config <file>', 'the configuration file', STANDARD_FILE)
    .option('--json', 'print one JSON document instead of text')
    .addHelpText('after', `${EXIT_CODES}\n\nExample:\n  edgectl status`)
    .showSuggestionAfterError()
    .configureOutput({ outputError: (text, write) => write(text) })
    .exitOverride()
  setupCommand(program)
  statusCommand(program)
  bufferCommand(program)
  ledgerCommand(program)
  deadLetterCommands(program)
  configCommands(program)
  kafkaCommands(program)
  patchCommands(program)
  fleetCommand(program)
  boxPatchCommands(program)
  devicesCommand(program)
  tailCommand(program)
  topCommand(program)
  whyCommands(program)
  deviceCommands(program)
  doctorCommand(program)
  bundleCommand(program)
  exportCommand(program)
  importCommands(program)
  backupCommand(program)
  verifyCommand(program)
  return program
}
