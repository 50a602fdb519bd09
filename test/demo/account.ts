/** The end of each demo: everything drained, and what devices published held against what kcat reads. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { LedgerDocument } from '../../daemon/cli/ledger-view.ts'
import type { Fleet } from '../fleet/fleet.ts'
import type { GatewayProgram } from '../fleet/gateway.ts'
import { judge } from '../fleet/judge.ts'
import { readBack } from '../fleet/read-back.ts'
import { LEDGER_LINES_MAX } from './options.ts'
import type { LogResult, Screen } from './screen.ts'

export const TOPIC = 'device-logs'

/** A gateway, and the devices that publish to it. */
export interface Served {
  readonly gateway: GatewayProgram
  readonly fleet: Fleet
}

export interface Account {
  readonly result: LogResult
  readonly isAsPromised: boolean
}

/** Ends the devices and the gateways. */
export async function settle(served: readonly Served[], broker: string, startedMs: number, screen: Screen): Promise<Account> {
  for (const { fleet } of served) fleet.quiet()
  screen.say('devices are quiet; waiting until everything is acknowledged and forwarded …')
  for (const one of served) await drained(one)
  const ledgers: LedgerDocument[] = []
  for (const { gateway } of served) ledgers.push((await gateway.ask(`/ledger?devices=${LEDGER_LINES_MAX}`)) as LedgerDocument)
  for (const { fleet } of served) fleet.close()
  await Promise.all(served.map(({ gateway }) => gateway.end('SIGTERM')))
  return judged(served, ledgers, broker, startedMs, screen)
}

async function judged(
  served: readonly Served[],
  ledgers: readonly LedgerDocument[],
  broker: string,
  startedMs: number,
  screen: Screen,
): Promise<Account> {
  const published = new Map(served.flatMap(({ fleet }) => [...fleet.published]))
  const verdict = judge(published, await readBack(broker, TOPIC), new Map(ledgers.flatMap((ledger) => [...shedByDevice(ledger)])))
  const bad = [...verdict.lost, ...verdict.duplicates, ...verdict.outOfOrder, ...verdict.altered]
  if (bad.length > 0) screen.say(`not as promised: ${bad.slice(0, 10).join(' ')}`)
  const off = ledgers.filter(({ equation }) => !equation.holds)
  for (const { equation } of off) screen.say(`the ledger's equation is off by ${equation.difference}`)
  const result = {
    published: published.size,
    acknowledged: served.reduce((sum, { fleet }) => sum + fleet.acknowledged, 0),
    inKafka: verdict.inKafka,
    shed: shedByReason(ledgers),
    lost: verdict.lost.length,
    duplicates: verdict.duplicates.length,
    outOfOrder: verdict.outOfOrder.length,
    seconds: Math.round((performance.now() - startedMs) / 100) / 10,
  }
  return { result, isAsPromised: bad.length === 0 && off.length === 0 }
}

function shedByReason(ledgers: readonly LedgerDocument[]): Record<string, number> {
  const shed: Record<string, number> = {}
  for (const { totals } of ledgers)
    for (const [reason, { messages }] of Object.entries(totals.shed)) shed[reason] = (shed[reason] ?? 0) + messages
  return shed
}

/** A redelivery that was dropped at the door is no message of its own. */
function shedByDevice({ devices }: LedgerDocument): ReadonlyMap<string, number> {
  const shed = new Map<string, number>()
  for (const line of devices) {
    const messages = Object.entries(line.shed).reduce(
      (sum, [reason, counted]) => (reason === 'duplicate' ? sum : sum + counted.messages),
      0,
    )
    shed.set(line.device, (shed.get(line.device) ?? 0) + messages)
  }
  return shed
}

async function drained({ gateway, fleet }: Served): Promise<void> {
  for (let second = 0; second < 120; second += 0.25) {
    // First: a message that is acknowledged after the status was made may be missing in it.
    const { pending } = fleet
    const status = await gateway.status()
    const waiting = Object.entries(status.lanes).reduce((sum, [name, lane]) => sum + (name === 'internal' ? 0 : lane.messages), 0)
    if (pending === 0 && waiting === 0) return
    await sleep(250)
  }
  throw new Error(`not drained after 120 s: ${fleet.pending} messages unacknowledged, status ${JSON.stringify(await gateway.status())}`)
}
