/** `edge-gateway execute`: started by systemd with its socket, as root. Loads neither the log path nor etcd. */
import { parseArgs } from 'node:util'
import { SystemClock } from '../../adapters/host/clock.ts'
import { SystemLog } from '../../adapters/host/log.ts'
import { STANDARD_FILE } from '../../config/host.ts'
import { messageOf } from '../errors.ts'
import { EXIT } from '../exit.ts'
import { executorServer } from './executor.ts'

/** sd_listen_fds(3) */
const FIRST_FD = 3
/** Longer than the pauses between the looks at a new version. */
const IDLE_MS = 60_000

export async function execute(argv: readonly string[]): Promise<void> {
  const log = new SystemLog('info', new SystemClock())
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: { config: { type: 'string', default: STANDARD_FILE }, socket: { type: 'string' } },
    })
    const isActivated = process.env['LISTEN_FDS'] === '1' && process.env['LISTEN_PID'] === String(process.pid)
    if (!isActivated && values.socket === undefined) throw new Error('systemd starts it: systemctl start edge-gateway-executor.socket')
    const stateDir = process.env['STATE_DIRECTORY'] ?? '/var/lib/edge-gateway-executor'
    const server = executorServer({ configPath: values.config, stateDir, idleMs: IDLE_MS, log })
    process.on('SIGTERM', () => server.stop())
    await server.listen(values.socket === undefined ? { fd: FIRST_FD } : { path: values.socket })
    await server.ended
    process.exit(EXIT.ok)
  } catch (error) {
    log.error({}, `the executor ends: ${messageOf(error)}`)
    process.exit(EXIT.usage)
  }
}
