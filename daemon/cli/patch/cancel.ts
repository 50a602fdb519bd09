import type { Command } from 'commander'
import { GatewayError } from '../../errors.ts'
import { operator, withFleet } from '../fleet-link.ts'
import { show } from '../figures.ts'
import { order, type Plan, type Seen, unsigned, wordOf } from './order.ts'

interface ReasonOption {
  readonly reason?: string
}

export function cancelCommand(program: Command, patch: Command): void {
  patch
    .command('cancel')
    .description('start it nowhere else, for good; where it is in force it stays')
    .argument('<id>', 'the patch')
    .option('--reason <text>', 'why, for everybody who looks at it')
    .addHelpText('after', '\nExample:\n  edgectl patch cancel 2026-11-raise-limits --reason "not needed any more"')
    .action((id: string, { reason }: ReasonOption) =>
      withFleet(program, async (link) => {
        const done = await order(link, id, 'cancel', reason, (seen) => cancelPlan(seen, reason))
        show(program, done, done.text)
      }),
    )
}

export function rollbackCommand(program: Command, patch: Command): void {
  patch
    .command('rollback')
    .description('cancel it, and take it back on every gateway that has it')
    .argument('<id>', 'the patch')
    .option('--reason <text>', 'why, for everybody who looks at it')
    .addHelpText('after', '\nExample:\n  edgectl patch rollback 2026-11-raise-limits --reason "devices lose messages"')
    .action((id: string, { reason }: ReasonOption) =>
      withFleet(program, async (link) => {
        const done = await order(link, id, 'rollback', reason, (seen) => rollbackPlan(seen, reason))
        show(program, done, done.text)
      }),
    )
}

function cancelPlan(seen: Seen, reason: string | undefined): Plan {
  const { id } = seen.patch
  const word = wordOf(seen)
  if (word?.state === 'cancelled') {
    return { value: undefined, text: `${id} is cancelled already${word.rollback === true ? ', and is taken back' : ''}` }
  }
  const phase = seen.state?.phase
  if (phase === 'superseded' || phase === 'expired' || phase === 'rolled-back')
    throw new GatewayError('rejected', `${id} is ${phase}: there is nothing to cancel`)
  const text = `${id} is cancelled: gateways that have begun finish, no other begins. \`edgectl patch rollback ${id}\` takes it back`
  return { value: unsigned('cancelled', operator(), reason), text }
}

function rollbackPlan(seen: Seen, reason: string | undefined): Plan {
  const { id } = seen.patch
  const word = wordOf(seen)
  if (word?.state === 'cancelled' && word.rollback === true) return { value: undefined, text: `${id} is taken back already` }
  if (seen.state?.phase === 'rolled-back' && seen.state.undo === 'all') return { value: undefined, text: `${id} was taken back already` }
  const text = `${id} is taken back wherever it was applied. \`edgectl patch status ${id} --watch\` shows how far that is`
  return { value: unsigned('cancelled', operator(), reason, true), text }
}
