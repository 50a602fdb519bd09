import assert from 'node:assert/strict'
import { test } from 'node:test'
import { serviceScope } from '../services/index.ts'
import { device, isUp, run, settingsFor, until, VERSIONS } from './mqtt-connect-kit.ts'

const scope = serviceScope()
const broker = await scope.mosquitto()

for (const protocolVersion of VERSIONS) {
  test(`version ${protocolVersion}: messages arrive whole, in order, and are acknowledged`, async () => {
    const settings = settingsFor(broker.endpoint, { protocolVersion })
    const first = await run(scope, settings)
    await isUp(first.connection)
    const publisher = await device(scope, broker.endpoint)
    const payloads = ['', '\0\xff', 'x'.repeat(200_000), ...Array.from({ length: 500 }, (_, n) => `line ${n}`)]
    await Promise.all(payloads.map((payload) => publisher.publishAsync('devices/d1/logs/app', payload, { qos: 1 })))
    await until('all have come', () => first.intake.deliveries.length === payloads.length)
    assert.deepEqual(first.intake.payloads, payloads)
    await first.stop()

    const second = await run(scope, settings)
    await isUp(second.connection)
    await publisher.publishAsync('devices/d1/logs/app', 'after', { qos: 1 })
    await until('the one after has come', () => second.intake.deliveries.length > 0)
    assert.deepEqual(second.intake.payloads, ['after'])
  })
}
