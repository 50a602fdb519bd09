/** A wall clock that is wrong, and can be set right while the daemon runs: libfaketime, around the daemon only. */
import { globSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensurePackages } from '../services/install.ts'

export interface FalseClock {
  /** For `Launch.env`. */
  readonly env: Readonly<Record<string, string>>
  /** The daemon's wall clock shows this instant now, and goes on from there. */
  show(wallMs: number): void
  /** It shows the true time. */
  setRight(): void
}

/** The monotonic clock and /proc/uptime stay true, as they do on a box without a battery clock. */
export function falseClock(dir: string): FalseClock {
  ensurePackages()
  const [library] = globSync('/usr/lib/*/faketime/libfaketimeMT.so.1')
  if (library === undefined) throw new Error('libfaketimeMT.so.1 was not found; run: apt-get install -y faketime')
  const file = join(dir, 'clock')
  const offset = (ms: number): void => writeFileSync(file, `${ms < 0 ? '-' : '+'}${Math.abs(ms / 1_000)}`)
  return {
    env: {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_CACHE_DURATION: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      DONT_FAKE_MONOTONIC: '1',
      TZ: 'UTC',
    },
    show: (wallMs) => offset(wallMs - Date.now()),
    setRight: () => offset(0),
  }
}
