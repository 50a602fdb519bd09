import type { Command } from 'commander'
import { SystemClock } from '../../../adapters/host/clock.ts'
import { SystemLog } from '../../../adapters/host/log.ts'
import { KafkaHistory, type HistoryRecord, type ReadSpan } from '../../../adapters/kafka/history.ts'
import type { Settings } from '../../../config/settings.ts'
import { parseSpan } from '../../../config/dotted.ts'
import { stoppedGaps } from '../../../store/gaps.ts'
import { kafkaSettings } from '../../compose/settings.ts'
import { GatewayError } from '../../errors.ts'
import { LANES, type Gap, type Lane } from '../../ports.ts'
import { isProven, Judge, type LaneVerdict } from '../../verify/judge.ts'
import { ask, load, type GlobalOptions } from '../ask.ts'
import { show } from '../figures.ts'
import { count, printable } from '../text.ts'
import { Progress } from './progress.ts'

interface VerifyOptions {
  readonly since?: string
  readonly epoch?: string
  readonly device?: string
  readonly gateway?: string
}

const POSITION = /^([0-9a-f]{16}):([a-z]+):(\d+)$/
const DAYS_MAX = 3_650

export function verifyCommand(program: Command): void {
  program
    .command('verify')
    .description("prove from Kafka that each of the box's messages is there once, and that none is missing")
    .option('--since <time>', 'only from this time on: 2026-11-24T10:00:00Z, or a span such as 2h')
    .option('--epoch <id>', 'only this epoch, as edgectl buffer names it')
    .option('--device <id>', 'say too what is there of this device; gaps are proven for all devices together')
    .option('--gateway <id>', 'of another box, such as one whose export was imported here; default: this box')
    .addHelpText('after', HELP)
    .action((options: VerifyOptions) => run(program, options))
}

const HELP = `
Each message has a position in its epoch and lane, and carries it to Kafka. It reads the data topic as a read_committed
consumer does, and holds it against the positions that Kafka has committed for this box, and against what the box knows
to have left in another way: dead letters, exports, limits. It can't prove what Kafka has deleted (retention), what
another program wrote, and the gateway's own records (their ledger's topic keeps only the newest). What is hidden behind
a transaction that any producer has open is waited for.
Exit code 0: nothing is missing or twice; 1: something is, and it is named, or nothing of the box is there at all.

Kafka must allow reading:  edgectl kafka setup --print --for-verify

Example:
  edgectl verify --since 24h`

async function run(program: Command, options: VerifyOptions): Promise<void> {
  const globals = program.opts<GlobalOptions>()
  const { settings } = load(globals)
  const client = kafkaSettings(settings)
  if (client === undefined || settings.kafka === undefined)
    throw new GatewayError('rejected', 'no Kafka is named in the configuration', { remedy: 'write kafka: { brokers: ["host:9092"] }' })
  const gateway = options.gateway ?? settings.gateway.id
  const clock = new SystemClock()
  const history = new KafkaHistory({ ...client, gatewayId: gateway }, clock, new SystemLog('error', clock))
  const own = gateway === settings.gateway.id
  const known = own ? await knownEpochs(globals) : []
  const gaps = own ? await gapsOf(globals, settings) : []
  // Before the topics' ends are asked for: what is committed later may lie behind them.
  const committed = new Map(await history.committed(known))
  const seen = new Reading(gateway, options.device)
  const spans = await history.read({
    topics: settings.kafka.allowedTopics,
    sinceMs: sinceOf(options.since, clock),
    visit: (record) => seen.add(record),
    wait: tellWait,
  })
  seen.progress.end()
  for (const [epoch, lanes] of await history.committed([...seen.judge.epochs].filter((epoch) => !committed.has(epoch))))
    committed.set(epoch, lanes)
  const verdicts = seen.judge.verdicts({ gaps, committed, cut: cutOf(spans), epoch: options.epoch })
  if (options.epoch !== undefined && verdicts.length === 0)
    throw new GatewayError('rejected', `Kafka has nothing of an epoch ${printable(options.epoch)} of ${printable(gateway)}`, {
      remedy: 'edgectl verify, without --epoch, names the epochs that it finds',
    })
  const proven = verdicts.length > 0 && isProven(verdicts)
  const document = {
    schema: 1,
    gateway,
    proven,
    records: seen.judge.records,
    others: seen.others,
    device: seen.device,
    lanes: verdicts,
    topics: spans,
  }
  show(program, document, view(verdicts, seen, spans, gateway))
  process.exitCode = proven ? 0 : 1
}

function tellWait(topic: string, partitions: readonly number[]): void {
  process.stderr.write(
    `waiting: a transaction is open in ${printable(topic)}, partition ${partitions.join(', ')}, and hides what is behind it\n`,
  )
}

class Reading {
  readonly judge = new Judge()
  readonly progress = new Progress('read')
  /** Records of other gateways, and of no gateway. */
  others = 0
  device: { readonly id: string; records: number } | undefined
  readonly #gateway: string

  constructor(gateway: string, device: string | undefined) {
    this.#gateway = gateway
    this.device = device === undefined ? undefined : { id: device, records: 0 }
  }

  add({ topic, partition, key, gateway, position }: HistoryRecord): void {
    const parts = gateway === this.#gateway ? POSITION.exec(position ?? '') : null
    const lane = LANES.find((name) => name === parts?.[2])
    if (parts === null || lane === undefined) {
      this.others += 1
      return
    }
    if (this.device?.id === key) this.device.records += 1
    this.judge.add({ topic, partition, device: key, epoch: parts[1] ?? '', lane, position: Number(parts[3]) })
    this.progress.tell(this.judge.records)
  }
}

async function knownEpochs(globals: GlobalOptions): Promise<string[]> {
  const { document } = await ask(globals, '/buffer')
  return (document as { epochs: { epoch: string }[] }).epochs.map(({ epoch }) => epoch)
}

async function gapsOf(globals: GlobalOptions, { gateway }: Settings): Promise<readonly Gap[]> {
  try {
    return ((await ask(globals, '/gaps')).document as { gaps: readonly Gap[] }).gaps
  } catch (error) {
    if (!(error instanceof GatewayError) || error.kind !== 'transient') throw error
    return stoppedGaps(gateway.dataDir)
  }
}

function sinceOf(text: string | undefined, clock: SystemClock): number | undefined {
  if (text === undefined) return undefined
  const at = /^\d{4}-/.test(text) ? Date.parse(text) : NaN
  if (Number.isFinite(at)) return at
  const span = parseSpan(text, DAYS_MAX * 86_400_000)
  if (typeof span === 'number') return clock.wallMs() - span
  throw new GatewayError('rejected', `--since: ${span}`, { remedy: 'write a time such as 2026-11-24T10:00:00Z, or a span such as 2h' })
}

function cutOf(spans: readonly ReadSpan[]): Set<string> {
  return new Set(spans.filter(({ isCut }) => isCut).map(({ topic, partition }) => `${topic}/${partition}`))
}

function view(verdicts: readonly LaneVerdict[], { judge, others, device }: Reading, spans: readonly ReadSpan[], gateway: string): string {
  const lines = verdicts.flatMap(linesOf)
  const cut = spans.filter(({ isCut }) => isCut).length
  const said = [
    `${verdicts.length === 0 ? 'NOTHING TO PROVE' : isProven(verdicts) ? 'PROVEN' : 'NOT AS IT SHOULD BE'}: ${count(judge.records)} records of ${printable(gateway)} in Kafka`,
    ...(lines.length === 0 ? ['  nothing of this box is there'] : lines),
    ...(device === undefined ? [] : [`  device ${printable(device.id)}: ${count(device.records)} records`]),
    ...(cut === 0 ? [] : [`  not read: the beginning of ${cut} of ${spans.length} partitions (deleted by retention, or before --since)`]),
    ...(others === 0 ? [] : [`  ${count(others)} records in the same topics are not of this box`]),
  ]
  return said.join('\n')
}

function linesOf(verdict: LaneVerdict): string[] {
  const { epoch, lane, first, last, missingCount, duplicateCount, explained, unproven, missing, duplicates } = verdict
  const fine = missingCount === 0 && duplicateCount === 0
  const left = Object.entries(explained).map(([reason, number]) => `${count(number)} ${reason}`)
  const all = left.length === 0 && unproven === 0 ? 'each once' : 'each once, but for '
  const rest = [...left, ...(unproven === 0 ? [] : [`${count(unproven)} that can't be proven`])].join(', ')
  const lines = [
    `  epoch ${epoch}, lane ${lane as Lane}: positions ${count(first)}..${count(last)}: ${fine ? `${all}${rest}` : 'see below'}`,
  ]
  if (missingCount > 0) {
    const named = missing.slice(0, 10).map((range) => (range.first === range.last ? String(range.first) : `${range.first}..${range.last}`))
    lines.push(`    MISSING ${count(missingCount)}: positions ${named.join(', ')}${missing.length > 10 ? ', …' : ''}`)
  }
  if (duplicateCount > 0) {
    const named = duplicates.slice(0, 10).map(({ position, device }) => `${position} (${printable(device)})`)
    lines.push(`    TWICE ${count(duplicateCount)}: ${named.join(', ')}${duplicateCount > 10 ? ', …' : ''}`)
  }
  return lines
}
