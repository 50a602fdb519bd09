/** Is the daemon there, and what does it say? */
import { ControlClient, DaemonUnreachable } from '../../../adapters/control/client.ts'
import { programName } from '../../../adapters/host/probe-ports.ts'
import { lockOwner } from '../../../store/lock.ts'
import type { DaemonFacts } from '../../doctor/box.ts'
import { messageOf } from '../../errors.ts'
import type { StatusDocument } from '../../status.ts'

export interface DaemonLook {
  readonly facts: DaemonFacts
  readonly status?: StatusDocument
}

/** Where a daemon listens, and where it keeps its files. */
export interface DaemonPlace {
  readonly socket: string
  readonly dataDir: string
}

/** The first of these places where a daemon is; down when there is none. Never rejects. */
export async function lookAtDaemon(places: readonly DaemonPlace[]): Promise<DaemonLook> {
  for (const place of places) {
    const look = await lookAt(place)
    if (look.facts.state !== 'down') return look
  }
  return { facts: { state: 'down' } }
}

async function lookAt({ socket, dataDir }: DaemonPlace): Promise<DaemonLook> {
  const client = new ControlClient(socket)
  try {
    const status = (await client.get('/status')) as StatusDocument
    const { pid, version, uptimeSeconds } = status
    return { status, facts: { state: 'up', pid, version, uptimeSeconds } }
  } catch (error) {
    if (!(error instanceof DaemonUnreachable)) return { facts: { state: 'denied', words: messageOf(error) } }
    const pid = lockOwner(dataDir)?.pid
    // The lock is proof that a daemon runs, also one that has not made its socket yet.
    const alive = pid !== undefined && programName(pid) !== undefined
    return { facts: { state: error.why === 'silent' || alive ? 'stuck' : 'down', ...(alive && { pid }) } }
  } finally {
    await client.close()
  }
}
