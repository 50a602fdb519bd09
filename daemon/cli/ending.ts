/** How a command ends when not by itself: its reader has gone, its output has no room, or a fault came from nowhere. */
import { EXIT } from '../exit.ts'
import { report } from './failure.ts'

/** Before the first command. Without it Node answers each of these with a stack trace. */
export function watchEndings(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', ended)
  process.on('uncaughtException', (error) => process.exit(report(error)))
}

/** `edgectl … | head` has read enough: that is no fault. */
function ended(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') process.exit(process.exitCode)
  try {
    process.stderr.write(`the output can't be written: ${error.message}\n`)
  } finally {
    process.exit(EXIT.io)
  }
}
