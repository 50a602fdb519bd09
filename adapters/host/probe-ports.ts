/** Who listens on a TCP port, from /proc. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { basename } from 'node:path'
import type { PortOwner } from '../../daemon/doctor/facts.ts'

/** `undefined`: nobody listens there. `port` of any local address. */
export function portOwner(port: number): PortOwner | undefined {
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    const socket = listening(table, port)
    if (socket !== undefined) return { uid: socket.uid, ...programOf(socket.inode) }
  }
  return undefined
}

/** proc_pid_net(5): sl, local address:port (hex), remote, state (0A: LISTEN), queues, timers, retransmits, uid, timeout, inode. */
function listening(table: string, port: number): { readonly uid: number; readonly inode: string } | undefined {
  for (const line of lines(table)) {
    const fields = line.trim().split(/\s+/)
    if (fields[3] !== '0A' || Number.parseInt(fields[1]?.split(':')[1] ?? '', 16) !== port) continue
    return { uid: Number(fields[7]), inode: fields[9] ?? '' }
  }
  return undefined
}

function lines(path: string): readonly string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').slice(1)
  } catch {
    // No IPv6 on this box.
    return []
  }
}

function programOf(inode: string): { readonly pid?: number; readonly program?: string } {
  const wanted = `socket:[${inode}]`
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    if (!holds(pid, wanted)) continue
    return { pid: Number(pid), program: programName(Number(pid)) ?? 'unknown' }
  }
  return {}
}

function holds(pid: string, wanted: string): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`) === wanted
      } catch {
        // Closed meanwhile.
        return false
      }
    })
  } catch {
    // Somebody else's program, or one that has ended.
    return false
  }
}

/** What `ps` would call it; `undefined` when it has ended. Node names its thread, not its program: then the script is told. */
export function programName(pid: number): string | undefined {
  try {
    const name = readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
    if (name !== 'MainThread' && name !== 'node') return name
    const [program = '', script = ''] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
    return `${basename(program)} ${basename(script)}`.trim()
  } catch {
    // It has ended.
    return undefined
  }
}
