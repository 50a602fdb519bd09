import { CommanderError } from 'commander'
import { ConfigError } from '../../config/problem.ts'
import { GatewayError, messageOf } from '../errors.ts'
import { EXIT } from '../exit.ts'

/** Says what went wrong in a sentence, and what to do; never a stack trace. Returns the exit code. */
export function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
  if (error instanceof ConfigError) {
    console.error(error.message)
    return EXIT.config
  }
  console.error(messageOf(error))
  if (!(error instanceof GatewayError)) return EXIT.software
  if (error.remedy !== undefined) console.error(`  try: ${error.remedy}`)
  return codeOf(error)
}

function codeOf(error: GatewayError): number {
  const cause = error.cause as NodeJS.ErrnoException | undefined
  if (cause?.code === 'EACCES') return EXIT.permission
  return error.kind === 'transient' ? 3 : 1
}
