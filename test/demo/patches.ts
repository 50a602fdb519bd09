/**
 * The patch path, live, while devices publish to every gateway: a good patch rolls through the fleet, a gateway that
 * comes late catches up, and a bad patch stops at its first gateway and is taken back.
 */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort, startEtcd, type KafkaService } from '../services/index.ts'
import { settle } from './account.ts'
import type { DemoOptions } from './options.ts'
import { payloads } from './payloads.ts'
import { PatchedFleet } from './patched-fleet.ts'
import type { PatchResult, Screen } from './screen.ts'

const BOXES = 5
const RAISED = 80
const ROLLOUT_MS = 60_000
/** A gateway that looked before its checks passed looks again after a minute. */
const CATCH_UP_MS = 120_000

const GOOD = 'raise-limits'
const BAD = 'other-kafka'

function goodPatch(): object {
  return {
    ...{ kind: 'config', channel: 'limits', sequence: 1, expires: inAnHour(), target: { all: true } },
    spec: { limits: { perDevice: { messagesPerSecond: RAISED } } },
    health: { checks: ['pipeline-moving'], consecutive: 2, deadline: '20s', bake: '2s' },
    rollout: {
      stages: [{ count: 1, bake: '2s' }, { percent: 50, bake: '2s' }, { percent: 100 }],
      concurrency: { scope: 'demo', slots: 5 },
      maxFailures: { count: 0 },
    },
  }
}

/** Valid, and wrong: nobody listens at that address. */
function badPatch(nobody: number): object {
  return {
    ...{ kind: 'config', channel: 'uplink', sequence: 1, expires: inAnHour(), target: { all: true } },
    spec: { kafka: { brokers: [`127.0.0.1:${nobody}`] } },
    health: { checks: ['pipeline-moving'], consecutive: 2, deadline: '10s', bake: '5s' },
    rollout: {
      stages: [{ count: 1, bake: '2s' }, { percent: 100 }],
      concurrency: { scope: 'demo', slots: 5 },
      maxFailures: { count: 0 },
      onFailure: 'rollback-all',
    },
  }
}

function inAnHour(): string {
  return new Date(Date.now() + 3_600_000).toISOString()
}

export async function playPatches(options: DemoOptions, dir: string, kafka: KafkaService, screen: Screen): Promise<number> {
  screen.say('starting a real etcd …')
  const etcd = await startEtcd({ dir: join(dir, 'etcd') })
  const { devices, from } = options
  const fleet = new PatchedFleet({ dir, broker: kafka.endpoint, etcd: etcd.endpoint, devices, payloadOf: await payloads(from) })
  const live = setInterval(() => void screen.show(fleet.served), 3_000)
  try {
    const started = performance.now()
    await fleet.prepare()
    const patches = await story(fleet, screen)
    screen.say('the fleet, as `edgectl fleet` shows it')
    for (const line of (await fleet.fleetView()).trimEnd().split('\n')) screen.line(line)
    clearInterval(live)
    const { result, isAsPromised } = await settle(fleet.served, kafka.endpoint, started, screen)
    screen.result({ ...result, ...patches })
    const wrong = unlike(patches)
    if (wrong !== undefined) screen.say(`not as promised: ${wrong}`)
    return isAsPromised && wrong === undefined ? 0 : 1
  } finally {
    clearInterval(live)
    await fleet.end()
    await etcd.kill('SIGKILL')
  }
}

async function story(fleet: PatchedFleet, screen: Screen): Promise<PatchResult> {
  screen.say(`${BOXES} gateways start, with devices that publish to them`)
  await fleet.add()
  await Promise.all(Array.from({ length: BOXES - 1 }, () => fleet.add()))
  await moving(fleet)
  const good = await roll(fleet, screen, GOOD, goodPatch(), `a good patch: each device may send ${RAISED} messages a second`)
  const applied = [...(await fleet.gateways()).values()].filter(({ results }) => results[GOOD]?.state === 'completed').length
  screen.say('one more gateway comes, when the rollout is over')
  await fleet.add()
  const late = { applied: await caughtUp(fleet, `gw-${BOXES + 1}`) }
  const bad = await roll(fleet, screen, BAD, badPatch(await freePort()), 'a bad patch: a Kafka that does not exist')
  const results = [...(await fleet.gateways()).values()].flatMap((row) => row.results[BAD]?.state ?? [])
  const begun = results.filter((state) => state !== 'refused')
  const back = begun.filter((state) => state === 'failed' || state === 'rolled-back')
  return { good: { applied, state: good }, late, bad: { started: begun.length, rolledBack: back.length, state: bad } }
}

/** Resolves with the phase in which it ended. */
async function roll(fleet: PatchedFleet, screen: Screen, id: string, document: object, title: string): Promise<string> {
  screen.say(title)
  await fleet.push(id, document)
  await fleet.watch(id, (line) => screen.line(line), ROLLOUT_MS)
  return (await fleet.rollout(id)).phase
}

/** A patch begins only where the checks pass: first something must have gone through each gateway. */
async function moving(fleet: PatchedFleet): Promise<void> {
  await until(CATCH_UP_MS, async () => {
    const states = await Promise.all(fleet.served.map(async ({ gateway }) => (await gateway.status()).verdict.state))
    return states.every((state) => state === 'ok')
  })
}

function caughtUp(fleet: PatchedFleet, gateway: string): Promise<boolean> {
  return until(CATCH_UP_MS, async () => (await fleet.gateways()).get(gateway)?.results[GOOD]?.state === 'completed')
}

async function until(mostMs: number, holds: () => Promise<boolean>): Promise<boolean> {
  for (const end = performance.now() + mostMs; performance.now() < end;) {
    if (await holds()) return true
    await sleep(500)
  }
  return false
}

function unlike({ good, late, bad }: PatchResult): string | undefined {
  if (good.applied !== BOXES || good.state !== 'completed') return `the good patch is ${good.state}, applied by ${good.applied} of ${BOXES}`
  if (!late.applied) return 'the gateway that came late did not catch up'
  if (bad.started !== 1 || bad.rolledBack !== 1) return `the bad patch was begun by ${bad.started}, and taken back by ${bad.rolledBack}`
  return bad.state === 'rolled-back' ? undefined : `the bad patch is ${bad.state}`
}
