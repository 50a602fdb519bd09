import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { HostChecks } from '../../adapters/host/checks.ts'
import { SystemdUnits } from '../../adapters/host/units.ts'
import { HttpProbe } from '../../adapters/http/probe.ts'
import { fakeSystemctl } from '../fakes/files-rig.ts'
import { lyingServer } from '../fakes/lying-server.ts'
import { serviceScope } from '../services/index.ts'

const scope = serviceScope()
const never = new AbortController().signal

test('each check says in words what is wrong', async () => {
  const server = await lyingServer((request, response) => {
    const status = Number(request.url?.slice(1))
    response.writeHead(status, { location: '/200' })
    // A health page that never ends must not hold the round.
    if (status === 200) response.write('still well')
    else response.end()
  })
  scope.atEnd(() => server.stop())
  const control = scope.folder()
  const units = new SystemdUnits({ systemctl: fakeSystemctl(control, ['app.service', 'off.service']).path, limitMs: 5_000 })
  writeFileSync(join(control, 'off.service'), 'failed x\n')
  const probe = new HttpProbe()
  scope.atEnd(() => probe.stop())
  let ok = true
  const checks = new HostChecks({ units, probe, pipeline: () => (ok ? { ok } : { ok, reason: 'Kafka is silent' }) })
  const good = ['pipeline-moving', 'unit:app.service', `http:${server.url}/200`, `${server.url}/204`]
  assert.deepEqual(
    await checks.run(good, never),
    good.map((name) => ({ name, ok: true })),
  )
  ok = false
  const bad = ['pipeline-moving', 'unit:off.service', 'unit:none.service', `http:${server.url}/302`, `http:${server.url}/503`, 'ping:x']
  const reasons = (await checks.run(bad, never)).map(({ ok, reason }) => [ok, reason])
  assert.deepEqual(reasons, [
    [false, 'Kafka is silent'],
    [false, 'off.service is failed'],
    [false, 'none.service is unknown to systemd'],
    [false, `${server.url}/302 answered 302`],
    [false, `${server.url}/503 answered 503`],
    [false, 'there is no check "ping:x"; write pipeline-moving, unit:<name> or http:<url>'],
  ])
})

test('no answer and no address are failed checks, and a silent one ends with its limit and with the signal', async () => {
  const server = await lyingServer(() => undefined)
  scope.atEnd(() => server.stop())
  const probe = new HttpProbe()
  scope.atEnd(() => probe.stop())
  const checks = new HostChecks({ units: new SystemdUnits(), probe, pipeline: () => ({ ok: true }) })
  for (const name of ['http:http://127.0.0.1:9/', 'http:not an address', 'http:file:///etc/passwd']) {
    assert.deepEqual(
      (await checks.run([name], never)).map(({ ok }) => ok),
      [false],
      name,
    )
  }
  await assert.rejects(probe.status(server.url, 50, never), { kind: 'transient', message: /did not answer/ })
  const stop = new AbortController()
  const asked = checks.run([`http:${server.url}`], stop.signal)
  stop.abort()
  assert.equal((await asked)[0]?.ok, false)
  await probe.stop()
  await probe.stop()
})

test('systemctl that is not there, and one that hangs', async () => {
  const absent = new SystemdUnits({ systemctl: '/nowhere/systemctl' })
  await assert.rejects(absent.start('a.service', never), { kind: 'rejected', message: /units need systemd/ })
  const folder = scope.folder()
  const { path } = fakeSystemctl(folder, ['app.service'])
  writeFileSync(path, '#!/bin/sh\nexec sleep 600\n')
  await assert.rejects(new SystemdUnits({ systemctl: path, limitMs: 50 }).stop('app.service', never), {
    kind: 'rejected',
    message: /a signal/,
  })
  const stop = new AbortController()
  const asked = new SystemdUnits({ systemctl: path }).state('app.service', stop.signal)
  stop.abort()
  await assert.rejects(asked, { kind: 'transient', message: /cancelled/ })
  const denied = scope.folder()
  const refusing = fakeSystemctl(denied, ['app.service'])
  writeFileSync(join(denied, 'deny-stop'), '')
  const units = new SystemdUnits({ systemctl: refusing.path })
  await assert.rejects(units.stop('app.service', never), { kind: 'rejected', message: /Access denied/, remedy: /edge-gateway-executor/ })
})
