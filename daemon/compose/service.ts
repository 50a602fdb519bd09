import type { Clock } from '../clock.ts'
import { ServiceState } from '../service-state.ts'

/**
 * What tells systemd how the daemon is; silent where nobody listens (a container, a terminal). Takes the socket's name out
 * of the environment: what the daemon starts must not speak for it. `failed` hears once that systemd can't be told.
 */
export async function serviceState(clock: Clock, failed: (text: string) => void): Promise<ServiceState> {
  const { NOTIFY_SOCKET: path = '', WATCHDOG_USEC: usec, WATCHDOG_PID: pid } = process.env
  for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete process.env[name]
  if (path === '') return new ServiceState({ notices: { send: () => undefined }, clock, watchdogMs: undefined, bytesMoved: () => 0 })
  const { NotifySocket, bytesMoved } = await import('../../adapters/systemd/notify.ts')
  const isMeant = pid === undefined || Number(pid) === process.pid
  const watchdogMs = isMeant && Number(usec) > 0 ? Number(usec) / 1_000 : undefined
  return new ServiceState({ notices: new NotifySocket(path, failed), clock, watchdogMs, bytesMoved })
}
