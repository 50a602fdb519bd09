import type { Command } from 'commander'
import { sleep } from '../../clock.ts'
import { kindOf, messageOf } from '../../errors.ts'
import { keys, type RolloutPhase } from '../../patch/records.ts'
import { untilChange } from '../../patch/wait.ts'
import type { GlobalOptions } from '../ask.ts'
import { type FleetLink, withFleet } from '../fleet-link.ts'
import { show } from '../figures.ts'
import { GatewayError } from '../../errors.ts'
import { LiveText } from './live-text.ts'
import { type RolloutLine, type Rollouts, RolloutWatch } from './looking.ts'
import { unknownPatch } from './order.ts'
import { changeLine, listView, rolloutScreen } from './rollout-view.ts'

/** A person should look. */
const TROUBLED: readonly RolloutPhase[] = ['paused', 'refused', 'rolling-back', 'rolled-back']
const ENDED: readonly RolloutPhase[] = ['completed', 'cancelled', 'superseded', 'expired', 'refused', 'rolled-back']
const PAUSE_MS = 300
const LOOK_MS = 5_000
const UNCUT = new AbortController().signal

export function statusCommand(program: Command, patch: Command): void {
  patch
    .command('status')
    .description('how the rollouts stand: one line each, or all about one')
    .argument('[id]', 'the patch')
    .option('--watch', 'stay until the rollout has ended; exit code 0 when it was completed, else 1')
    .addHelpText('after', '\nExample:\n  edgectl patch status\n  edgectl patch status 2026-11-raise-limits --watch')
    .action((id: string | undefined, { watch = false }: { readonly watch?: boolean }) =>
      withFleet(program, async (link) => {
        if (watch) await follow(program, link, named(id))
        else if (id === undefined) list(program, link, await new RolloutWatch(link).look())
        else one(program, link, pick(await new RolloutWatch(link).look(), id))
      }),
    )
}

function named(id: string | undefined): string {
  if (id !== undefined) return id
  throw new GatewayError('rejected', 'which rollout is to be watched?', { remedy: 'edgectl patch status ID --watch' })
}

function list(program: Command, link: FleetLink, seen: Rollouts): void {
  const { revision, rollouts, unreadable } = seen
  const document = { schema: 1, revision, verified: link.verifies, rollouts, unreadable: Object.fromEntries(unreadable) }
  show(program, document, listView(seen) + blindNote(link))
}

function one(program: Command, link: FleetLink, line: RolloutLine): void {
  show(program, documentOf(link, line), rolloutScreen(line) + blindNote(link))
  if (TROUBLED.includes(line.phase)) process.exitCode = 1
}

function documentOf({ verifies }: FleetLink, line: RolloutLine): object {
  return { schema: 1, verified: verifies, ...line }
}

function blindNote({ verifies }: FleetLink): string {
  return verifies ? '' : '\nnote: patches.trustedKeys is empty here: no signature was verified'
}

function pick({ rollouts, unreadable }: Rollouts, id: string): RolloutLine {
  const found = rollouts.find(({ patch }) => patch === id)
  if (found !== undefined) return found
  const state = keys.rolloutState(id)
  if (!unreadable.has(state)) throw unknownPatch(id)
  throw new GatewayError('rejected', `${state} in etcd can't be read: ${unreadable.get(state) ?? ''}`, {
    remedy: 'put it right, or delete it in etcd',
  })
}

async function follow(program: Command, link: FleetLink, id: string): Promise<void> {
  const isJson = program.opts<GlobalOptions>().json === true
  const text = new LiveText(process.stdout)
  const watch = new RolloutWatch(link)
  for (let last = ''; ;) {
    const seen = await lookAgain(link, watch, last !== '')
    if (seen === undefined) continue
    const line = pick(seen, id)
    const now = isJson ? JSON.stringify(documentOf(link, line)) : changeLine(line)
    if (isJson || !text.redraws) {
      if (now !== last) console.log(isJson ? now : `${new Date().toISOString().slice(11, 19)} ${now}`)
    } else text.show(rolloutScreen(line))
    last = now
    if (ENDED.includes(line.phase)) return void (process.exitCode = line.phase === 'completed' ? 0 : 1)
    await sleep(link.clock, PAUSE_MS, UNCUT)
    const targets = [keys.patches, keys.rollouts, 'failures/', keys.gateways].map((prefix) => ({ prefix }))
    await untilChange(link, { targets, revision: seen.revision + 1, mostMs: LOOK_MS }, UNCUT)
  }
}

/** The first look must do; later ones outlast an etcd that is away for a while. */
async function lookAgain({ clock }: FleetLink, watch: RolloutWatch, isLater: boolean): Promise<Rollouts | undefined> {
  try {
    return await watch.look()
  } catch (error) {
    if (!isLater || kindOf(error) !== 'transient') throw error
    console.error(`${messageOf(error)}; trying again`)
    await sleep(clock, LOOK_MS, UNCUT)
    return undefined
  }
}
