import type { Step } from '../../daemon/doctor/facts.ts'

/** Runs one step for at most `timeoutMs`; never rejects. `abandon` frees what the step holds when the time is over. */
export async function step<Found extends object>(
  timeoutMs: number,
  attempt: () => Promise<Found>,
  abandon: () => void = () => undefined,
): Promise<Step<Found>> {
  const started = performance.now()
  const took = (): number => Math.round((performance.now() - started) * 10) / 10
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(
    () => reject(Object.assign(new Error(`no answer within ${timeoutMs / 1_000} s`), { code: 'ETIMEDOUT' })),
    timeoutMs,
  )
  try {
    const found = await Promise.race([attempt(), late])
    return { ok: true, ms: took(), ...found }
  } catch (error) {
    const { code, message } = innermost(error)
    return { ok: false, ms: took(), code: typeof code === 'string' ? code : '', words: message }
  } finally {
    clearTimeout(timer)
    abandon()
  }
}

interface Coded extends Error {
  readonly code?: unknown
  readonly errors?: readonly unknown[]
}

/** Several addresses of one name were tried: the last error is as good as any. */
function innermost(error: unknown): Coded {
  if (!(error instanceof Error)) return new Error(String(error))
  const last = (error as Coded).errors?.at(-1)
  return last === undefined ? error : innermost(last)
}
