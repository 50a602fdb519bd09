/** The socket of sd_notify(3): with real datagram sockets, by path and by abstract name, and with none. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test, type TestContext } from 'node:test'
import { bytesMoved, NotifySocket } from '../../adapters/systemd/notify.ts'
import { serviceState } from '../../daemon/compose/service.ts'
import { FakeClock } from '../fakes/clock.ts'

/** Binds, says so, and prints one datagram. Node has no such sockets. */
const RECEIVER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace('@', '\\0', 1))
print('bound', flush=True)
print(repr(s.recv(65536).decode()), flush=True)
`

async function received(t: TestContext, address: string, send: () => unknown): Promise<string> {
  const receiver = spawn('python3', ['-c', RECEIVER, address], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => receiver.kill('SIGKILL'))
  // By lines: Python may write a text and its end apart.
  const lines = createInterface({ input: receiver.stdout })[Symbol.asyncIterator]()
  assert.equal((await lines.next()).value, 'bound')
  const [datagram] = await Promise.all([lines.next(), send()])
  return String(datagram.value)
}

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'edge-notify-'))
  t.after(() => rmSync(path, { recursive: true, force: true }))
  return path
}

test('all assignments of a call are one datagram, to a path and to an abstract name', { timeout: 30_000 }, async (t) => {
  const fail = (text: string): never => assert.fail(text)
  for (const address of [join(folder(t), 'notify'), `@edge-gateway-test-${process.pid}`]) {
    const socket = new NotifySocket(address, fail)
    assert.equal(await received(t, address, () => socket.send('READY=1', 'STATUS=größer')), "'READY=1\\nSTATUS=größer'")
  }
})

test('a socket that is not there, or that nobody could mean, is said once, and nothing throws', () => {
  for (const address of ['/nonexistent/notify', 'vsock:2:1', `/${'x'.repeat(200)}`]) {
    const said: string[] = []
    const socket = new NotifySocket(address, (text) => said.push(text))
    for (let turn = 0; turn < 3; turn += 1) socket.send('WATCHDOG=1')
    assert.equal(said.length, 1)
    assert.match(said[0] ?? '', /NOTIFY_SOCKET/)
  }
})

test('the names go out of the environment, so that nothing that is started speaks for the daemon', { timeout: 30_000 }, async (t) => {
  const address = join(folder(t), 'notify')
  Object.assign(process.env, { NOTIFY_SOCKET: address, WATCHDOG_USEC: '3000000', WATCHDOG_PID: String(process.pid) })
  const clock = new FakeClock()
  const state = await serviceState(clock, (text) => assert.fail(text))
  assert.deepEqual(
    ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'].filter((name) => name in process.env),
    [],
  )
  assert.equal(await received(t, address, () => state.failed('why')), "'STATUS=FAILED: why'")
  assert.ok(bytesMoved() > 0)
})
