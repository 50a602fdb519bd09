/** Is the wall clock right? Certificates, ages and windows hang on it, so it is looked at first. Pure. */
import { duration } from '../health.ts'
import { Findings, type Check } from './check.ts'
import type { ClockFound } from './facts.ts'

/** Below this nobody minds; certificates are seldom that fresh. */
const APART_MS = 30_000
/** From here on tokens and certificates fail, and Kafka's timestamps mislead. */
const FAR_APART_MS = 5 * 60_000

export interface OtherClock {
  readonly of: string
  /** Theirs minus ours. */
  readonly aheadMs: number
}

export function judgeClock(found: ClockFound, others: readonly OtherClock[]): readonly Check[] {
  const findings = new Findings('clock')
  judgeTime(found, findings)
  judgeOthers(others, findings)
  judgeSource(found, others, findings)
  judgeBattery(found, findings)
  return findings.checks
}

const SET = 'set the clock: `timedatectl set-ntp true`, or where no time server is reached `timedatectl set-time "YYYY-MM-DD hh:mm:ss"`'

function judgeTime({ wallMs, plausible }: ClockFound, findings: Findings): void {
  const now = `${new Date(wallMs).toISOString().slice(0, 19).replace('T', ' ')} UTC`
  if (plausible) return findings.ok('time', now)
  findings.fail('time', `the clock says ${now}, which is before this release was made: nothing that checks certificates works`, SET)
}

function judgeOthers(others: readonly OtherClock[], findings: Findings): void {
  for (const { of, aheadMs } of others) {
    const apart = Math.abs(aheadMs)
    const name = `against ${of}`
    const words = `this box's clock is ${duration(apart)} ${aheadMs > 0 ? 'behind' : 'ahead of'} that of ${of}`
    if (apart > FAR_APART_MS) findings.fail(name, words, SET)
    else if (apart > APART_MS) findings.warn(name, words, SET)
    else findings.ok(name, 'the same, to a second or so')
  }
}

function judgeSource({ synchronised, service }: ClockFound, others: readonly OtherClock[], findings: Findings): void {
  const name = 'synchronised'
  if (synchronised === true) return findings.ok(name, 'by a time server')
  if (synchronised === undefined) return findings.skip(name, 'nobody on this box tells (timedatectl does not answer)')
  const agrees = others.some(({ aheadMs }) => Math.abs(aheadMs) <= APART_MS) ? ', though right now it agrees with others' : ''
  const remedy = service === false ? '`timedatectl set-ntp true`' : 'see whether a time server is reached: `timedatectl timesync-status`'
  findings.warn(name, `no time server keeps this clock${service === false ? ': the service is off' : ''}${agrees}`, remedy)
}

function judgeBattery({ rtc, rtcMs, wallMs }: ClockFound, findings: Findings): void {
  const name = 'battery clock'
  if (!rtc) return findings.ok(name, 'none: after a power cut the time is wrong until a time server is reached; the gateway waits for that')
  if (rtcMs === undefined) return findings.skip(name, 'it is there, and could not be read')
  const apart = Math.abs(rtcMs - wallMs)
  if (apart > FAR_APART_MS)
    findings.warn(
      name,
      `it is ${duration(apart)} off: the time will be wrong after a restart`,
      '`hwclock --systohc`, and look at its battery',
    )
  else findings.ok(name, 'agrees')
}
