/** The Debian that tests of units and packages run in. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { bootDebian, serviceScope } from '../services/index.ts'

const limit = { timeout: 300_000 }

test('a Debian of its own: systemd runs, a reboot keeps the disk, nothing of it is left at the end', limit, async (t) => {
  const scope = serviceScope((release) => t.after(release))
  const shared = scope.folder()
  const one = await bootDebian(scope, { binds: { [shared]: '/mnt' } })
  const other = await bootDebian(scope)
  const ids = await Promise.all([one, other].map((machine) => machine.must(['cat', '/etc/machine-id'])))
  assert.notEqual(ids[0], ids[1])
  assert.match(await one.must(['cat', '/etc/os-release']), /VERSION_ID="12"/)
  assert.deepEqual(await one.run(['sh', '-c', 'cat; echo no >&2; exit 7'], { input: 'yes' }), { code: 7, stdout: 'yes', stderr: 'no\n' })

  await one.write('/etc/systemd/system/mark.service', '[Service]\nType=oneshot\nExecStart=/bin/sh -c "echo ran > /mnt/mark"\n')
  await one.must(['systemctl', 'daemon-reload'])
  await one.must(['systemctl', 'start', 'mark'])
  assert.equal(readFileSync(`${shared}/mark`, 'utf8'), 'ran\n')
  await one.reboot()
  assert.match(await one.must(['systemctl', 'cat', 'mark']), /echo ran/)
  assert.match((await one.must(['journalctl', '--list-boots'])).trim(), /\n/, 'the journal of the boot before is there')
  assert.equal((await other.run(['test', '-e', '/etc/systemd/system/mark.service'])).code, 1)

  const groups = (): string => readFileSync(`/proc/${other.pid}/cgroup`, 'utf8')
  assert.match(groups(), new RegExp(`edge-gateway-test-${process.pid}`))
  await Promise.all([one.kill(), other.kill()])
  assert.doesNotMatch(readFileSync('/proc/self/mounts', 'utf8'), new RegExp(shared))
  await assert.rejects(one.must(['true']))
})
