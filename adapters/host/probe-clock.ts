/** What is known of the wall clock: from the kernel and systemd, and from peers that tell the time. */
import { readFileSync, globSync } from 'node:fs'
import { output, properties } from './probe-run.ts'
import type { ClockFound } from '../../daemon/doctor/facts.ts'

export async function lookAtClock(plausible: boolean, timeoutMs: number): Promise<ClockFound> {
  const told = await output('timedatectl', ['show', '-p', 'NTP', '-p', 'NTPSynchronized'], timeoutMs)
  const known = told?.code === 0 ? properties(told.out) : {}
  const [clock] = globSync('/sys/class/rtc/rtc*/since_epoch')
  const rtc = clock === undefined ? undefined : Number(text(clock))
  return {
    wallMs: Date.now(),
    plausible,
    ...(known['NTPSynchronized'] !== undefined && { synchronised: known['NTPSynchronized'] === 'yes' }),
    ...(known['NTP'] !== undefined && { service: known['NTP'] === 'yes' }),
    rtc: clock !== undefined,
    ...(rtc !== undefined && rtc > 0 && { rtcMs: rtc * 1_000 }),
  }
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    // A clock that can't be read tells nothing.
    return ''
  }
}
