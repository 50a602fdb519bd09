/** Somebody else has the port of the page or of the metrics: messages flow, the verdict says why, and it comes by itself. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server } from 'node:net'
import { describe, test, type TestContext } from 'node:test'
import { connect } from '../contract/mqtt-listen-kit.ts'
import { edgectlOf, openBox, until } from '../fleet/box.ts'
import { freePort, serviceScope } from '../services/index.ts'

const scope = serviceScope()
const limit = { timeout: 60_000 }

async function occupy(t: TestContext, port = 0): Promise<{ readonly server: Server; readonly port: number }> {
  const server = createServer().listen(port, '127.0.0.1')
  t.after(() => server.close())
  await once(server, 'listening')
  return { server, port: (server.address() as AddressInfo).port }
}

describe('a port that somebody else has', { concurrency: 4 }, () => {
  for (const part of ['metrics', 'page'])
    test(`${part}: the daemon starts, says who has the port, and takes it when it is free`, limit, async (t) => {
      const { server, port } = await occupy(t)
      const box = await openBox(scope, { config: { [part]: { listen: `127.0.0.1:${port}` } } })
      const client = await connect(t, box.port)
      client.publish('devices/a/logs/app/a-1', 1, 1)
      await client.take('puback')
      const { configuration } = await box.status()
      assert.deepEqual(
        configuration.waiting.map(({ name }) => name),
        [part],
      )
      const [waiting] = configuration.waiting
      assert.match(
        waiting?.reason ?? '',
        new RegExp(`can't listen on 127\\.0\\.0\\.1:${port}.*\\(pid ${process.pid}\\) listens on ${port}`),
      )
      assert.match(waiting?.remedy ?? '', /choose another port, or stop that program/)
      const { stdout } = await edgectlOf(box, ['status'])
      assert.match(stdout, new RegExp(`\\n {2}${part} +is not there: .* listens on ${port}; try: `))
      server.close()
      await until('it is there', async () => (await fetch(`http://127.0.0.1:${port}/`)).status > 0)
      await until('nothing waits', async () => (await box.status()).configuration.waiting.length === 0)
    })

  test('a reload away from it is taken, one onto it is refused with the same words and remembered until a good one', limit, async (t) => {
    const [first, second] = [await occupy(t), await occupy(t)]
    const box = await openBox(scope, { config: { page: { listen: `127.0.0.1:${first.port}` } } })
    const reload = async (page: string): Promise<void> => {
      await box.configure({ page: { listen: page } })
      box.gateway.signal('SIGHUP')
    }
    await reload(`127.0.0.1:${second.port}`)
    const refused = await until('it is refused', async () => (await box.status()).configuration.refused)
    assert.match(refused.reason, new RegExp(`\\(pid ${process.pid}\\) listens on ${second.port}`))
    assert.equal((await box.status()).configuration.waiting.length, 1, 'the old one still waits')
    assert.match(
      (await edgectlOf(box, ['status'])).stdout,
      /\n {2}reload +the last one was refused .*the configuration before it is in force/,
    )
    const free = await freePort()
    await reload(`127.0.0.1:${free}`)
    await until('it is taken', async () => (await box.status()).configuration.refused === undefined)
    assert.equal((await fetch(`http://127.0.0.1:${free}/`)).status > 0, true)
    assert.deepEqual((await box.status()).configuration.waiting, [])
    await reload('yes, please')
    assert.match((await until('it is refused', async () => (await box.status()).configuration.refused)).reason, /page\.listen/)
  })
})
