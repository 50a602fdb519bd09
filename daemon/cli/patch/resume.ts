import type { Command } from 'commander'
import { envelopeText, seal } from '../../../adapters/signing/dsse.ts'
import { GatewayError } from '../../errors.ts'
import { encode } from '../../patch/codec.ts'
import { type Control, CONTROL_TYPE, type RolloutPhase } from '../../patch/records.ts'
import { type FleetLink, operator, withFleet } from '../fleet-link.ts'
import { show } from '../figures.ts'
import { order, type Plan, type Seen } from './order.ts'
import { assertBelieved, signingKey } from './signer.ts'

interface SignedOptions {
  readonly key: string
  readonly reason?: string
}

export function resumeCommand(program: Command, patch: Command): void {
  signed(program, patch, 'resume', 'let a paused rollout go on', (seen) => {
    refuseResume(seen)
    return retryOf(seen)
  })
}

export function retryCommand(program: Command, patch: Command): void {
  signed(program, patch, 'retry', 'forgive the failures, and try again on the gateways that failed', (seen) => {
    refuseRetry(seen)
    return retryOf(seen) + 1
  })
}

function signed(
  program: Command,
  patch: Command,
  action: 'resume' | 'retry',
  description: string,
  retryNumber: (seen: Seen) => number,
): void {
  patch
    .command(action)
    .description(description)
    .argument('<id>', 'the patch')
    .requiredOption('--key <file>', 'a private key that may sign this patch: only a signed order makes anything go on')
    .option('--reason <text>', 'why, for the record')
    .addHelpText('after', `\nExample:\n  edgectl patch ${action} 2026-11-raise-limits --key ops-2026.key`)
    .action((id: string, options: SignedOptions) =>
      withFleet(program, async (link) => {
        const done = await order(link, id, action, options.reason, (seen) => planOf(link, action, seen, retryNumber(seen), options))
        show(program, done, done.text)
      }),
    )
}

function planOf(link: FleetLink, action: string, seen: Seen, retry: number, { key: file, reason }: SignedOptions): Plan {
  const key = signingKey(file)
  const { patch, control, revision } = seen
  const order: Control = {
    ...{ schema: 1, state: 'active', patch: patch.id },
    // A pause that was deleted still counts: it lies before the revision of this look.
    answers: control?.modRevision ?? revision,
    ...(retry > 0 ? { retry } : {}),
    by: operator(),
    ...(reason === undefined ? {} : { reason }),
  }
  const envelope = seal(CONTROL_TYPE, encode(order), key)
  const checked = assertBelieved(link, patch, envelope)
  const note = checked ? '' : '\nnote: patches.trustedKeys is empty here, so that nobody looked whether the gateways trust this key'
  const what = action === 'resume' ? 'is resumed' : `is tried again (retry ${retry})`
  return {
    value: Buffer.from(envelopeText(envelope)),
    text: `${patch.id} ${what}; \`edgectl patch status ${patch.id} --watch\` shows it${note}`,
  }
}

/** The highest so far: a lower one would be forgotten. */
function retryOf({ state, view }: Seen): number {
  return Math.max(state?.retry ?? 0, view.retry)
}

function refuseResume({ patch: { id, rollout }, state, view, failures }: Seen): void {
  if (state?.phase !== 'paused' && view.state !== 'paused')
    throw new GatewayError(
      'rejected',
      `${id} is not paused; it is ${view.state === 'cancelled' ? 'cancelled' : (state?.phase ?? 'waiting')}`,
    )
  if (failures > rollout.maxFailures)
    throw new GatewayError('rejected', `${failures} gateways failed, ${rollout.maxFailures} may: to go on would pause it again`, {
      remedy: `edgectl patch retry ${id} --key FILE (forgives the failures), or edgectl patch rollback ${id}`,
    })
}

const RETRIED: readonly RolloutPhase[] = ['running', 'paused', 'completed', 'rolled-back']

function refuseRetry({ patch: { id }, state }: Seen): void {
  const phase = state?.phase ?? 'waiting'
  if (RETRIED.includes(phase)) return
  if (phase === 'rolling-back') throw new GatewayError('rejected', `${id} is still being taken back; try again when it is rolled back`)
  throw new GatewayError('rejected', `${id} is ${phase}: there is nothing to try again`, {
    ...(phase === 'cancelled' ? { remedy: 'push it as a new patch under another id' } : {}),
  })
}
