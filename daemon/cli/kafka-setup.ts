import type { Command } from 'commander'
import { SystemClock } from '../../adapters/host/clock.ts'
import { SystemLog } from '../../adapters/host/log.ts'
import { KafkaSetup, type SetUpResult } from '../../adapters/kafka/setup.ts'
import type { KafkaSettings, Settings } from '../../config/settings.ts'
import { kafkaSettings } from '../compose/settings.ts'
import { GatewayError } from '../errors.ts'
import { load, type GlobalOptions } from './ask.ts'
import { show } from './figures.ts'
import { commandsOf, kafkaPlan, type KafkaPlan } from './kafka-plan.ts'
import { table } from './text.ts'

interface SetupOptions {
  readonly print?: boolean
  readonly partitions: string
  readonly replication?: string
  readonly principal?: string
  readonly importFor?: string
  readonly prefix?: string
  readonly topic?: readonly string[]
  readonly forVerify?: boolean
}

export function kafkaCommands(program: Command): void {
  program
    .command('kafka')
    .description('the gateway and its Kafka')
    .command('setup')
    .description('create the topics that the gateway needs, and its rights when a principal is known')
    .option('--print', "print the commands of Kafka's own tools instead of running anything")
    .option('--partitions <n>', 'partitions of a new data topic', '6')
    .option('--replication <n>', 'copies of each new topic; default: 3, or as many as there are brokers')
    .option('--principal <name>', 'whom to give the rights; default: kafka.sasl.username')
    .option('--import-for <gateway>', 'only the rights that this box needs to deliver what that one exported')
    .option('--prefix <name>', 'with --import-for: kafka.prefix of that box; default: of this one')
    .option('--topic <names...>', 'with --import-for: data topics of that box; default: of this one')
    .option('--for-verify', 'also the right to read the data topics, for edgectl verify')
    .addHelpText('after', '\nExample:\n  edgectl kafka setup --print\n  edgectl kafka setup --partitions 12 --replication 3')
    .action((options: SetupOptions) => setUp(program, options))
}

async function setUp(program: Command, options: SetupOptions): Promise<void> {
  const { settings } = load(program.opts<GlobalOptions>())
  const kafka = named(settings)
  if (options.importFor === undefined && (options.prefix ?? options.topic) !== undefined)
    throw new GatewayError('rejected', '--prefix and --topic go with --import-for', {
      remedy: 'for this box itself they stand in its configuration: kafka.prefix, kafka.topic',
    })
  const wanted = kafkaPlan({
    prefix: options.prefix ?? kafka.prefix,
    gateway: options.importFor ?? settings.gateway.id,
    dataTopics: options.topic ?? kafka.allowedTopics,
    readable: options.forVerify === true,
    partitions: positive('--partitions', options.partitions),
    replication: options.replication === undefined ? undefined : positive('--replication', options.replication),
  })
  const plan = options.importFor === undefined ? wanted : { ...wanted, topics: [] }
  const principal = options.principal ?? (kafka.sasl !== undefined && 'username' in kafka.sasl ? kafka.sasl.username : undefined)
  if (options.print === true) {
    const commands = commandsOf(plan, kafka.brokers.map(({ host, port }) => `${host}:${port}`).join(','), principal ?? 'PRINCIPAL')
    return show(program, { schema: 1, commands }, commands.join('\n'))
  }
  await create(program, settings, plan, principal)
}

async function create(program: Command, settings: Settings, plan: KafkaPlan, principal: string | undefined): Promise<void> {
  const client = kafkaSettings(settings)
  if (client === undefined) return
  const clock = new SystemClock()
  const setup = new KafkaSetup(client, clock, new SystemLog('error', clock))
  const topics = await setup.topics(plan.topics)
  if (principal !== undefined) await setup.acls(plan.acls, principal)
  const rights =
    principal === undefined
      ? 'no principal is known, so no rights were given; name one with --principal where Kafka checks them'
      : `rights given to ${principal}`
  const soon = topics.some(({ outcome }) => outcome === 'created')
    ? '\na daemon that waited for these topics tries again within a minute'
    : ''
  show(program, { schema: 1, topics, principal }, `${view(topics)}\n${rights}${soon}`)
  if (topics.some(({ outcome }) => outcome === 'wrong')) process.exitCode = 1
}

function view(topics: readonly SetUpResult[]): string {
  return table(
    ['topic', 'outcome', ''],
    topics.map(({ topic, outcome, fault }) => [topic, outcome, fault ?? '']),
  )
}

function named(settings: Settings): KafkaSettings {
  if (settings.kafka !== undefined) return settings.kafka
  throw new GatewayError('rejected', 'no Kafka is named in the configuration', { remedy: 'write kafka: { brokers: ["host:9092"] }' })
}

function positive(option: string, text: string): number {
  const value = Number(text)
  if (Number.isSafeInteger(value) && value > 0) return value
  throw new GatewayError('rejected', `${option} takes a whole number from 1, not ${text}`)
}
