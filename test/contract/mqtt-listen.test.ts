import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect, listen, mosquittoPub, until } from './mqtt-listen-kit.ts'

test('mosquitto_pub delivers at QoS 0, 1 and 2', async (t) => {
  const { intake, port } = await listen(t)
  for (const qos of [0, 1, 2] as const) {
    const { code, output } = await mosquittoPub(port, ['-t', `devices/d1/logs/q${qos}`, '-m', `hello ${qos}`, '-q', String(qos), '-i', 'd1'])
    assert.equal(code, 0, output)
  }
  await until(() => intake.deliveries.length === 3)
  const seen = intake.deliveries.map(({ source, topic, payload, qos, retained, identity }) => ({ source, topic, payload: Buffer.from(payload).toString(), qos, retained, identity }))
  assert.deepEqual(seen, [0, 1, 2].map((qos) => ({ source: 'lan', topic: `devices/d1/logs/q${qos}`, payload: `hello ${qos}`, qos, retained: false, identity: undefined })))
})

test('PUBACK waits for the settlement, and keeps the order of receipt', async (t) => {
  const { intake, port } = await listen(t)
  intake.automatic = false
  const client = await connect(t, port)
  for (let id = 1; id <= 4; id++) client.publish('a/b', id)
  await client.ping()
  assert.equal(intake.deliveries.length, 4)
  assert.deepEqual(client.received, [])
  for (const i of [3, 1, 0, 2]) intake.settle(intake.deliveries[i]!)
  assert.deepEqual(await client.takeIds('puback', 4), [1, 2, 3, 4])
})
