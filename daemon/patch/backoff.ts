import type { Random } from '../clock.ts'

/** The wait before attempt `failures` + 1: doubles up to `mostMs`, drawn from its upper half, so that a fleet spreads. */
export function backoffMs(failures: number, firstMs: number, mostMs: number, random: Random): number {
  const rangeMs = Math.min(mostMs, firstMs * 2 ** Math.min(failures, 30))
  return rangeMs * (0.5 + random.unit() / 2)
}

/** `intervalMs` give or take half of it: what a fleet does at an interval must not be done by all at once. */
export function jittered(intervalMs: number, random: Random): number {
  return intervalMs * (0.5 + random.unit())
}
