/** Is the daemon there, and what does it say? */
import { ControlClient, DaemonUnreachable } from '../../../adapters/control/client.ts'
import { programName } from '../../../adapters/host/probe-ports.ts'
import type { Settings } from '../../../config/settings.ts'
import { lockOwner } from '../../../store/lock.ts'
import type { DaemonFacts } from '../../doctor/box.ts'
import { messageOf } from '../../errors.ts'
import type { StatusDocument } from '../../status.ts'

export interface DaemonLook {
  readonly facts: DaemonFacts
  readonly status?: StatusDocument
}

/** Never rejects. */
export async function lookAtDaemon({ control, gateway }: Settings): Promise<DaemonLook> {
  const client = new ControlClient(control.socket)
  try {
    const status = (await client.get('/status')) as StatusDocument
    const { pid, version, uptimeSeconds } = status
    return { status, facts: { state: 'up', pid, version, uptimeSeconds } }
  } catch (error) {
    if (!(error instanceof DaemonUnreachable)) return { facts: { state: 'denied', words: messageOf(error) } }
    const pid = lockOwner(gateway.dataDir)?.pid
    // The lock is proof that a daemon runs, also one that has not made its socket yet.
    const alive = pid !== undefined && programName(pid) !== undefined
    return { facts: { state: error.why === 'silent' || alive ? 'stuck' : 'down', ...(alive && { pid }) } }
  } finally {
    await client.close()
  }
}
