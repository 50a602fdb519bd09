/** What the relay builds on, held against the fake that it is tested with and against a real broker. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { before, describe, it } from 'node:test'
import type { EpochId, Kafka, KafkaFailure, Lane, Positions, ProducerLife } from '../../daemon/ports.ts'
import { FakeClock } from '../fakes/clock.ts'
import { FakeKafka } from '../fakes/kafka.ts'
import { serviceScope, type KafkaService } from '../services/index.ts'
import { brokerOptions, createTopic, deliver, gateway, never, readFormatted, recordOf, TIMEOUTS } from './kafka-kit.ts'

interface Cluster {
  /** One transactional id. */
  readonly kafka: Kafka
  /** Texts in the topic, as a `read_committed` consumer sees them. */
  read(topic: string): Promise<readonly string[]>
}

/** Cluster with the topics `edge.positions` (4 partitions), `logs` (2), and `small` (1, `max.message.bytes` 2,000). */
type MakeCluster = (gatewayId: string) => Promise<Cluster>

async function failure(work: Promise<unknown>): Promise<KafkaFailure> {
  const result = await work.then(
    () => undefined,
    (error: unknown) => error,
  )
  assert.ok(result instanceof Error, 'it did not reject')
  return result as KafkaFailure
}

function at(epoch: EpochId, lanes: Partial<Record<Lane, number>>): Positions {
  return new Map([[epoch, new Map(Object.entries(lanes) as [Lane, number][])]])
}

let epochs = 0
function newEpoch(): EpochId {
  epochs += 1
  return epochs.toString(16).padStart(16, 'c')
}

function contract(name: string, make: MakeCluster): void {
  describe(`Kafka port: ${name}`, () => {
    const begin = async (gatewayId: string): Promise<[Cluster, ProducerLife]> => {
      const cluster = await make(gatewayId)
      return [cluster, await cluster.kafka.begin(TIMEOUTS, never)]
    }

    /** By a new life: only its beginning waits until the transaction before is complete. */
    const readBack = async ({ kafka }: Cluster, epoch: EpochId): Promise<(readonly [Lane, number])[]> => {
      const life = await kafka.begin(TIMEOUTS, never)
      const positions = [...(await life.committed(epoch))].toSorted()
      await life.close(500)
      return positions
    }

    it('records and positions become visible together; an epoch without any has none', async () => {
      const [cluster, life] = await begin('together')
      const epoch = newEpoch()
      assert.equal((await life.committed(epoch)).size, 0)
      await life.topicFacts('logs')
      await life.transact([recordOf('logs', 0, 'together-1'), recordOf('logs', 1, 'together-2')], at(epoch, { normal: 3, urgent: 9 }))
      await life.close(500)
      assert.deepEqual(await readBack(cluster, epoch), [
        ['normal', 3],
        ['urgent', 9],
      ])
      assert.deepEqual((await cluster.read('logs')).filter((text) => text.startsWith('together')).toSorted(), ['together-1', 'together-2'])
    })

    it('positions of several epochs go in one transaction, and an empty one moves positions only', async () => {
      const [cluster, life] = await begin('epochs')
      const [old, young] = [newEpoch(), newEpoch()]
      await life.topicFacts('logs')
      await life.transact([recordOf('logs', 0, 'epochs')], new Map([...at(old, { normal: 5 }), ...at(young, { normal: 7, internal: 2 })]))
      await life.transact([], at(young, { normal: 8 }))
      await life.close(500)
      assert.deepEqual(await readBack(cluster, old), [['normal', 5]])
      assert.deepEqual(await readBack(cluster, young), [
        ['internal', 2],
        ['normal', 8],
      ])
    })

    it('a new life fences the one before: nothing of it is ever visible', async () => {
      const [cluster, old] = await begin('fenced')
      const epoch = newEpoch()
      await old.topicFacts('logs')
      await old.transact([recordOf('logs', 0, 'fenced-first')], at(epoch, { normal: 2 }))
      const young = await cluster.kafka.begin(TIMEOUTS, never)
      const fenced = await failure(old.transact([recordOf('logs', 0, 'fenced-late')], at(epoch, { normal: 3 })))
      assert.equal(fenced.kind, 'fenced')
      assert.deepEqual([...(await young.committed(epoch))], [['normal', 2]])
      await Promise.all([old.close(500), young.close(500)])
      assert.deepEqual(
        (await cluster.read('logs')).filter((text) => text.startsWith('fenced')),
        ['fenced-first'],
      )
    })

    it('a partition whose batch is refused is named, and nothing of the transaction is visible', async () => {
      const [cluster, life] = await begin('refused')
      const epoch = newEpoch()
      await life.topicFacts('logs')
      assert.equal((await life.topicFacts('small')).maxMessageBytes, 2_000)
      const noise = randomBytes(3_000).toString('hex')
      const refused = await failure(life.transact([recordOf('logs', 0, 'refused'), recordOf('small', 0, noise)], at(epoch, { normal: 3 })))
      assert.equal(refused.kind, 'rejected')
      assert.deepEqual([refused.refused, refused.alarm], [{ topic: 'small', partition: 0 }, false])
      await life.close(500)
      const next = await cluster.kafka.begin(TIMEOUTS, never)
      assert.equal((await next.committed(epoch)).size, 0)
      await next.close(500)
      assert.deepEqual(
        (await cluster.read('logs')).filter((text) => text === 'refused'),
        [],
      )
    })

    it('a record of the far future is refused with words about its timestamp', async () => {
      const [, life] = await begin('future')
      await life.topicFacts('logs')
      const refused = await failure(life.transact([recordOf('logs', 0, 'future', { timestampMs: Date.now() + 86_400_000 })], new Map()))
      assert.deepEqual([refused.kind, refused.refused], ['rejected', { topic: 'logs', partition: 0 }])
      assert.match(refused.message, /timestamp/i)
      await life.close(500)
    })

    it('a missing topic is an alarm with a remedy', async () => {
      const [, life] = await begin('missing')
      const missing = await failure(life.topicFacts('not-there'))
      assert.deepEqual([missing.alarm, missing.fate], [true, 'none'])
      assert.match(missing.message, /"not-there"/)
      assert.match(missing.remedy ?? '', /edgectl kafka setup/)
      await life.close(500)
    })

    it("a key leads to one of the topic's partitions, always the same, once its facts were asked", async () => {
      const [, life] = await begin('keys')
      assert.throws(() => life.partitionOf('logs', 'pump-7'))
      assert.equal((await life.topicFacts('logs')).partitions, 2)
      const partitions = Array.from({ length: 50 }, (_, index) => life.partitionOf('logs', `dev-${index}`))
      assert.deepEqual(new Set(partitions), new Set([0, 1]))
      assert.deepEqual(
        Array.from({ length: 50 }, (_, index) => life.partitionOf('logs', `dev-${index}`)),
        partitions,
      )
      await life.close(500)
      await life.close(500)
    })
  })
}

contract('the fake', async () => {
  const kafka = new FakeKafka(new FakeClock(), {
    'edge.positions': { partitions: 4 },
    logs: { partitions: 2 },
    small: { partitions: 1, maxMessageBytes: 2_000 },
  })
  kafka.refuses = (record) => (record.timestampMs > Date.now() + 3_600_000 ? 'INVALID_TIMESTAMP' : undefined)
  return { kafka, read: async (topic) => kafka.committedRecords(topic).map(({ value }) => Buffer.from(value).toString()) }
})

const scope = serviceScope()
let broker: KafkaService

describe('Kafka port: a real broker', () => {
  before(async () => {
    broker = await scope.kafka(brokerOptions)
    await createTopic(broker, 'edge.positions', 4)
    await createTopic(broker, 'logs', 2)
    await createTopic(broker, 'small', 1, { 'max.message.bytes': '2000' })
    // The first life, and the first positions, make the broker create its internal topics.
    await createTopic(broker, 'first', 2)
    await deliver(gateway(broker.endpoint, 'first'), 'first', 2, 2)
  })

  contract('kafkajs', async (gatewayId) => ({
    kafka: gateway(broker.endpoint, gatewayId),
    read: (topic) => readFormatted(broker, topic, '%s'),
  }))
})
