import assert from 'node:assert/strict'
import { before, describe, it } from 'node:test'
import { KAFKA_API, serviceScope } from '../services/index.ts'
import type { KafkaService } from '../services/index.ts'
import { begin, brokerOptions, createTopic, deliver, failureOf, Faults, gateway, positionsAt, recordOf } from './kafka-kit.ts'

const scope = serviceScope()
let kafka: KafkaService
let faults: Faults

before(async () => {
  const started = await scope.kafkaBehindProxy(brokerOptions)
  kafka = started.kafka
  faults = new Faults(started.proxy)
  await createTopic(kafka, 'edge.positions', 4)
  await createTopic(kafka, 'few', 2)
  // The first life, and the first positions, make the broker create its internal topics.
  await deliver(gateway(kafka.endpoint, 'first'), 'few', 2, 2)
})

/** On a thin link each request costs a second. */
describe('the requests of a transaction', () => {
  const { addOffsetsToTxn, txnOffsetCommit, addPartitionsToTxn, produce, endTxn, findCoordinator } = KAFKA_API

  it('are five once the coordinators are known, however large it is', async () => {
    const asked: number[] = []
    const client = gateway(kafka.endpoint, 'few')
    const life = await begin(client)
    await life.transact([recordOf('few', 0, 'first')], positionsAt(1))
    faults.set('few', (key) => {
      if (key !== addOffsetsToTxn || asked.at(-1) !== addOffsetsToTxn) asked.push(key)
      return 'pass'
    })
    const many = Array.from({ length: 5_000 }, (_, index) => recordOf('few', index % 2, `line ${index}`))
    await life.transact(many, positionsAt(5_001))
    assert.deepEqual(asked, [addOffsetsToTxn, txnOffsetCommit, addPartitionsToTxn, produce, endTxn])
    await life.close(1_000)
    faults.clear('few')
  })

  it('ask for the coordinators again after a failure', async () => {
    const client = gateway(kafka.endpoint, 'again')
    const dying = await begin(client)
    await dying.transact([recordOf('few', 0, 'one')], positionsAt(1))
    faults.set('again', (key) => (key === endTxn ? 'cut' : 'pass'))
    await failureOf(dying.transact([recordOf('few', 0, 'two')], positionsAt(2)))
    await dying.close(0)
    let questions = 0
    faults.set('again', (key) => {
      questions += key === findCoordinator ? 1 : 0
      return 'pass'
    })
    const next = await begin(client)
    assert.ok(questions > 0)
    await next.transact([recordOf('few', 0, 'two')], positionsAt(2))
    await next.close(1_000)
  })
})
