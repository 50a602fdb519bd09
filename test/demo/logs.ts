/** The log path, live: half-way the gateway is killed with -9, later Kafka is stopped for a while. */
import { setTimeout as sleep } from 'node:timers/promises'
import { Fleet } from '../fleet/fleet.ts'
import { setUpGateway, setUpTopics, type GatewaySetup } from '../fleet/setup.ts'
import { freePort, type KafkaService } from '../services/index.ts'
import { settle, TOPIC } from './account.ts'
import type { DemoOptions } from './options.ts'
import { payloads } from './payloads.ts'
import type { Screen } from './screen.ts'

/** What both demos write into each gateway's file. */
export function baseConfig(id: string, broker: string, port: number): Record<string, unknown> {
  return {
    gateway: { id },
    mqtt: {
      listen: { lan: { url: `mqtt://127.0.0.1:${port}`, auth: 'none' } },
      topics: { 'device-logs': { pattern: 'devices/{device}/logs/{stream}/{id}' } },
    },
    // The noisy device publishes 200 a second: most of it is shed, and nobody else's.
    limits: { perDevice: { messagesPerSecond: 40, burst: '2s' }, overLimit: 'shed' },
    // Devices send an id with each message, so that a redelivery after a lost PUBACK is dropped at the door.
    buffer: { minFreeBytes: '64MiB', dedupe: { from: 'topic:{id}', window: '10m' } },
    kafka: { brokers: [broker], topic: TOPIC },
    metrics: { listen: 'off' },
  }
}

export async function playLogs(options: DemoOptions, dir: string, kafka: KafkaService, screen: Screen): Promise<number> {
  const port = await freePort()
  const setup = await setUpGateway(dir, baseConfig('gw-demo', kafka.endpoint, port))
  await setUpTopics(setup.configFile, 4)
  const { gateway } = setup
  const started = performance.now()
  await gateway.start()
  const fleet = new Fleet({
    host: '127.0.0.1',
    port,
    devices: options.devices,
    ratePerDevice: 4,
    noisyRate: 200,
    payloadOf: await payloads(options.from),
  })
  fleet.start()
  const live = setInterval(() => void screen.show([{ gateway, fleet }]), 1_000)
  try {
    await faults(options, setup, kafka, screen)
    const { result, isAsPromised } = await settle([{ gateway, fleet }], kafka.endpoint, started, screen)
    screen.result(result)
    return isAsPromised ? 0 : 1
  } finally {
    clearInterval(live)
    fleet.close()
    await gateway.end('SIGKILL')
  }
}

/** The devices publish all the while. */
async function faults(options: DemoOptions, { gateway }: GatewaySetup, kafka: KafkaService, screen: Screen): Promise<void> {
  const share = (fraction: number): Promise<void> => sleep(options.seconds * 1_000 * fraction)
  await share(0.3)
  screen.say('kill -9 of the gateway')
  await gateway.end('SIGKILL')
  await gateway.start()
  screen.say('the gateway is back')
  await share(0.2)
  screen.say('Kafka is stopped')
  await kafka.stop()
  await share(0.25)
  await kafka.start()
  screen.say('Kafka is back')
  await share(0.25)
}
