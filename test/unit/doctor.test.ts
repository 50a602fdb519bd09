import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { groupView, lastLine } from '../../daemon/cli/doctor.ts'
import { judgeMachine, judgePort, judgeService } from '../../daemon/doctor/box.ts'
import { exitOf, Findings, firstToFix, type Check } from '../../daemon/doctor/check.ts'
import { judgeClock } from '../../daemon/doctor/clock.ts'
import { judgeDisk, type DiskFacts } from '../../daemon/doctor/disk.ts'
import type { ClockFound, Reach, TlsFound, UnitFound } from '../../daemon/doctor/facts.ts'
import { judgeReach } from '../../daemon/doctor/peers.ts'

const NOW = Date.UTC(2026, 10, 24)
const DAY = 86_400_000
const GIB = 1 << 30

describe('what the kernel complains of', () => {
  const found = { kernel: '6.1', uptimeSeconds: 9, cpus: 2, load: 0, memoryBytes: GIB, availableBytes: GIB, swapBytes: 0, swapFreeBytes: 0 }
  const remedy = (line: string): string | undefined => judgeMachine(found, [line]).find(({ name }) => name === 'kernel errors')?.remedy

  it('is mended where it stands: a disk is replaced, and memory is looked for', () => {
    assert.match(remedy('[1.2] mmcblk0: I/O error, dev mmcblk0') ?? '', /disk/)
    assert.match(remedy('[1.2] Memory cgroup out of memory: Killed process 7 (java)') ?? '', /free -m/)
  })
})

describe('what to do first', () => {
  const states = fc.constantFrom<Check['state']>('ok', 'warn', 'fail', 'skipped')

  it('is the earliest failure, else the earliest warning, and the exit code agrees', () => {
    fc.assert(
      fc.property(fc.array(states, { maxLength: 12 }), (all) => {
        const checks = all.map((state, index): Check => ({ group: 'kafka', name: String(index), state, finding: '' }))
        const worst = all.includes('fail') ? 'fail' : all.includes('warn') ? 'warn' : undefined
        assert.equal(firstToFix(checks)?.name, worst === undefined ? undefined : String(all.indexOf(worst)))
        assert.equal(exitOf(checks), worst === 'fail' ? 2 : worst === 'warn' ? 1 : 0)
      }),
    )
  })

  it('is said in one line in which nothing moves the cursor', () => {
    const check: Check = { group: 'kafka', name: 'a', state: 'fail', finding: 'x\u001b[2J\ny', remedy: 'z' }
    assert.equal(lastLine([check]), 'fix first: a: x\\u001b[2J\\u000ay → z')
    assert.equal(lastLine([]), 'all is well')
  })

  it('shows what is well, and what was not looked at, in a line each', () => {
    const findings = new Findings('kafka')
    findings.ok('a', 'one')
    findings.ok('b', 'two')
    findings.fail('c', 'three', 'do')
    findings.skipBecause('d', 'c')
    findings.skipBecause('e', 'c')
    assert.deepEqual(groupView(findings.checks, false), [
      'ok   kafka     2 checks',
      'FAIL kafka     c: three',
      '               → do',
      '-    kafka     2 checks: because "c" failed',
    ])
  })
})

describe('how far we got to a peer', () => {
  const tls: TlsFound = {
    protocol: 'TLSv1.3',
    subject: 'k',
    issuer: 'ca',
    names: 'DNS:other',
    validFromMs: NOW - DAY,
    validToMs: NOW + 90 * DAY,
  }
  const words = { name: 'k:1', address: 'kafka.brokers', tls: 'kafka.tls', secure: true }
  const reached = {
    host: 'k',
    port: 1,
    dns: { ok: true, ms: 1, addresses: ['10.0.0.1'] },
    tcp: { ok: true, ms: 1, address: '10.0.0.1' },
  } as const

  function judged(found: Reach): { readonly checks: readonly Check[]; readonly reached: boolean } {
    const findings = new Findings('kafka')
    const outcome = judgeReach(found, words, NOW, findings)
    return { checks: findings.checks, reached: outcome.reached }
  }

  it('fails one step, and skips those behind it because of it', () => {
    const { checks, reached: through } = judged({ host: 'k', port: 1, dns: { ok: false, ms: 3, code: 'ENOTFOUND', words: 'x' } })
    assert.deepEqual(
      [through, ...checks.map(({ state, because }) => [state, because])],
      [false, ['fail', undefined], ['skipped', 'k:1 dns'], ['skipped', 'k:1 dns']],
    )
  })

  for (const [fault, finding, remedy] of [
    ['CERT_HAS_EXPIRED', /expired on 2027-02-22; this box says it is 2026-11-24 00:00 UTC/, /renew/],
    ['CERT_NOT_YET_VALID', /valid only from 2026-11-23/, /timedatectl/],
    ['ERR_TLS_CERT_ALTNAME_INVALID', /not for k, but for DNS:other/, /made for k/],
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', /comes from "ca"/, /kafka\.tls\.ca/],
  ] as const) {
    it(`says what ${fault} means`, () => {
      const { checks } = judged({ ...reached, tls: { ok: true, ms: 1, ...tls, fault } })
      const last = checks.at(-1)
      assert.equal(last?.state, 'fail')
      assert.match(last?.finding ?? '', finding)
      assert.match(last?.remedy ?? '', remedy)
    })
  }

  it('warns of a certificate that expires within 30 days', () => {
    assert.equal(judged({ ...reached, tls: { ok: true, ms: 1, ...tls } }).checks.at(-1)?.state, 'ok')
    assert.equal(judged({ ...reached, tls: { ok: true, ms: 1, ...tls, validToMs: NOW + 29 * DAY } }).checks.at(-1)?.state, 'warn')
  })
})

describe('the clock', () => {
  const found: ClockFound = { wallMs: NOW, plausible: true, synchronised: true, service: true, rtc: true, rtcMs: NOW }
  const stateOf = (checks: readonly Check[], name: string): string | undefined => checks.find((check) => check.name === name)?.state

  it('fails when it can not be right, or another one is minutes away', () => {
    assert.equal(stateOf(judgeClock({ ...found, plausible: false }, []), 'time'), 'fail')
    for (const [aheadMs, state] of [
      [-1_000, 'ok'],
      [45_000, 'warn'],
      [-600_000, 'fail'],
    ] as const)
      assert.equal(stateOf(judgeClock(found, [{ of: 'etcd', aheadMs }]), 'against etcd'), state)
  })

  it('only warns when no time server keeps it', () => {
    assert.equal(firstToFix(judgeClock({ ...found, synchronised: false, service: false }, []))?.remedy, '`timedatectl set-ntp true`')
  })
})

describe('the disk', () => {
  const facts: DiskFacts = {
    dataDir: '/d',
    disk: {
      folder: '/d',
      totalBytes: 16 * GIB,
      freeBytes: 8 * GIB,
      inodes: 1_000,
      inodesFree: 900,
      kind: 'eMMC or SD card',
      writtenBytes: GIB,
    },
    sync: { times: 200, p50Ms: 3, p99Ms: 9 },
    minFreeBytes: GIB / 2,
    maxBytes: 2 * GIB,
    usedBytes: 0,
    uptimeSeconds: 86_400,
    daemon: { writtenBytes: GIB / 2, seconds: 86_400 },
  }
  const named = (changes: Partial<DiskFacts>, name: string): Check | undefined =>
    judgeDisk({ ...facts, ...changes }).find((check) => check.name === name)
  const disk = (changes: Partial<DiskFacts['disk']>): Partial<DiskFacts> => ({ disk: { ...facts.disk, ...changes } })

  it('is well where there is room, and says how long it lasts, as an estimate', () => {
    assert.equal(exitOf(judgeDisk(facts)), 0)
    assert.equal(
      named({}, 'wear')?.finding,
      '1.0 GiB a day are written, 512 MiB of it by the gateway; at that rate it lasts more than 20 years (an estimate: 500 times its size)',
    )
  })

  for (const [what, changes, name, state] of [
    ['full', disk({ freeBytes: 0 }), 'room', 'fail'],
    ['below minFreeBytes', disk({ freeBytes: GIB / 4 }), 'room', 'fail'],
    ['smaller than what the buffer may take', disk({ freeBytes: GIB }), 'room', 'warn'],
    ['read-only', disk({ readOnly: true }), 'mount', 'fail'],
    ['memory', disk({ fileSystem: 'tmpfs' }), 'mount', 'warn'],
    ['out of inodes', disk({ inodesFree: 3 }), 'inodes', 'fail'],
    ['slow', { sync: { times: 5, p50Ms: 90, p99Ms: 1_500 } }, 'speed', 'warn'],
    ['at its end of life', disk({ life: { usedPercentMost: 110 } }), 'life left', 'fail'],
    ['near it', disk({ life: { usedPercentMost: 90, preEndOfLife: 1 } }), 'life left', 'warn'],
    ['worn by 50 GiB a day', disk({ writtenBytes: 50 * GIB }), 'wear', 'warn'],
  ] as const) {
    it(`tells of one that is ${what}`, () => assert.equal(named(changes, name)?.state, state))
  }
})

describe('ports and the service', () => {
  it('knows a port of ours from one that is taken', () => {
    const stateOf = (facts: Omit<Parameters<typeof judgePort>[0], 'name' | 'port'>): string | undefined => {
      const findings = new Findings('mqtt')
      judgePort({ name: 'lan', port: 1883, ...facts }, findings)
      return findings.checks[0]?.state
    }
    assert.equal(stateOf({ owner: { uid: 1, pid: 7, program: 'node' }, daemonPid: 7 }), 'ok')
    assert.equal(stateOf({ owner: { uid: 1, pid: 8, program: 'mosquitto' }, daemonPid: 7 }), 'fail')
    assert.equal(stateOf({ owner: { uid: 1 }, user: 'mosquitto' }), 'fail')
    assert.equal(stateOf({ owner: { uid: 1 }, daemonPid: 7 }), 'skipped')
    assert.equal(stateOf({ owner: { uid: 0 }, user: 'root', mayRun: true }), 'skipped', 'who may not ask must not accuse the daemon')
    assert.equal(stateOf({ owner: { uid: 110 }, user: 'mosquitto', mayRun: true }), 'fail')
    assert.equal(stateOf({ owner: undefined, daemonPid: 7 }), 'fail')
    assert.equal(stateOf({ owner: undefined }), 'skipped')
  })

  it('tells a daemon that is down from one that is stuck, and a unit that failed from one that was stopped', () => {
    const unit: UnitFound = {
      load: 'loaded',
      active: 'failed',
      sub: 'failed',
      enabled: 'enabled',
      restarts: 5,
      result: 'exit-code',
      exitStatus: 74,
    }
    const first = (...facts: Parameters<typeof judgeService> extends [...infer Facts, Findings] ? Facts : never): Check | undefined => {
      const findings = new Findings('service')
      judgeService(...facts, findings)
      return firstToFix(findings.checks)
    }
    assert.match(first({ state: 'down' }, unit)?.finding ?? '', /failed \(failed\), started again 5 times, last end: exit-code 74/)
    assert.match(first({ state: 'down' }, undefined)?.remedy ?? '', /systemctl start/)
    assert.match(first({ state: 'stuck', pid: 9 }, undefined)?.finding ?? '', /pid 9.*does not answer/)
    assert.equal(first({ state: 'up', pid: 9, uptimeSeconds: 60 }, undefined), undefined)
  })
})
