import type { Command } from 'commander'
import { GatewayError } from '../../errors.ts'
import type { RolloutPhase } from '../../patch/records.ts'
import { operator, withFleet } from '../fleet-link.ts'
import { show } from '../figures.ts'
import { order, type Plan, type Seen, unsigned, wordOf } from './order.ts'

/** Nothing starts any more, so there is nothing to pause. */
const OVER: readonly RolloutPhase[] = ['cancelled', 'superseded', 'expired', 'rolling-back', 'rolled-back']

export function pauseCommand(program: Command, patch: Command): void {
  patch
    .command('pause')
    .description('start it on no further gateway, until a signed order resumes it')
    .argument('<id>', 'the patch')
    .requiredOption('--reason <text>', 'why, for everybody who looks at it')
    .addHelpText('after', '\nExample:\n  edgectl patch pause 2026-11-raise-limits --reason "line 3 reports errors"')
    .action((id: string, { reason }: { readonly reason: string }) =>
      withFleet(program, async (link) => {
        const done = await order(link, id, 'pause', reason, (seen) => plan(seen, reason))
        show(program, done, done.text)
      }),
    )
}

function plan(seen: Seen, reason: string): Plan {
  const { id } = seen.patch
  const word = wordOf(seen)?.state
  if (word === 'paused') return { value: undefined, text: `${id} is paused already` }
  const phase = word === 'cancelled' ? 'cancelled' : seen.state?.phase
  if (phase !== undefined && OVER.includes(phase)) throw new GatewayError('rejected', `${id} is ${phase}: there is nothing to pause`)
  const text = `${id} is paused: gateways that have begun finish, no other begins. \`edgectl patch resume ${id} --key FILE\` lets it go on`
  return { value: unsigned('paused', operator(), reason), text }
}
