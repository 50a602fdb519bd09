/** Small files of the gateway's that people's commands change: whole or not at all, with owner and mode kept. */
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { basename, dirname, join } from 'node:path'
import { GatewayError, messageOf } from '../../daemon/errors.ts'
import { syncFolder } from './durable.ts'

const GROUP = 'edge-gateway'
const NEW_MODE = 0o640

/**
 * Durable when it returns. A file that was there keeps its owner and mode; a new one is 0640, of the service's group where
 * there is one. A link stays a link. Throws `rejected`, with what to do, and leaves what was there.
 */
export function replaceFile(path: string, content: string): void {
  const target = resolved(path)
  const made = join(dirname(target), `.${basename(target)}.${randomBytes(4).toString('hex')}.new`)
  try {
    writeNew(made, content, target)
    renameSync(made, target)
    syncFolder(dirname(target))
  } catch (error) {
    rmSync(made, { force: true })
    throw cannotWrite(path, error)
  }
}

/** `undefined` when there is none. Throws `rejected` when it can't be read. */
export function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new GatewayError('rejected', `${path} can't be read: ${messageOf(error)}`, { cause: error })
  }
}

function resolved(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    // There is none yet; what stands in its way is told when it is written.
    return path
  }
}

function writeNew(made: string, content: string, target: string): void {
  const before = statSync(target, { throwIfNoEntry: false })
  const gid = before?.gid ?? groupId() ?? statSync(dirname(target)).gid
  const fd = openSync(made, 'wx', 0o600)
  try {
    // A rename brings the owner of the new file along: the daemon must be able to read it as before.
    if (before !== undefined) fchownSync(fd, before.uid, gid)
    else if (process.getuid?.() === 0) fchownSync(fd, 0, gid)
    fchmodSync(fd, (before?.mode ?? NEW_MODE) & 0o777)
    writeFileSync(fd, content)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function groupId(): number | undefined {
  const found = new RegExp(`^${GROUP}:[^:]*:(\\d+):`, 'm').exec(readIfThere('/etc/group') ?? '')
  return found === null ? undefined : Number(found[1])
}

function cannotWrite(path: string, cause: unknown): GatewayError {
  const { code } = cause as NodeJS.ErrnoException
  const words: Record<string, readonly [string, string]> = {
    EACCES: ['this user may not', 'run it with sudo'],
    EPERM: ['this user may not', 'run it with sudo'],
    ENOSPC: ['the disk is full', 'df -h shows which; free some room, then run it again'],
    EROFS: ['the disk is mounted read-only', 'mount it writable: mount -o remount,rw'],
    ENOENT: ['there is no such folder', `mkdir -p ${dirname(path)}`],
  }
  const [why, remedy] = words[code ?? ''] ?? [messageOf(cause), 'look at the disk: dmesg | tail']
  return new GatewayError('rejected', `${path} can't be written: ${why}; nothing was changed`, { cause, remedy })
}

const LOCK_WAIT_MS = 5_000
const LOCK_POLL_MS = 50

/**
 * Runs `change` while no other command changes this file. The lock is a name among abstract sockets (unix(7)), which the
 * kernel gives back however its holder ends. Rejects with `rejected` when another one has it for five seconds.
 */
export async function alone<Result>(path: string, change: () => Result | Promise<Result>): Promise<Result> {
  const server = createServer()
  const name = `\0edge-gateway:${resolved(path)}`.slice(0, 100)
  for (const lastMs = Date.now() + LOCK_WAIT_MS; !(await listens(server, name));) {
    if (Date.now() > lastMs)
      throw new GatewayError('rejected', `another command has been changing ${path} for some seconds`, {
        remedy: 'run it again when that one has ended',
      })
    await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS))
  }
  try {
    return await change()
  } finally {
    await new Promise((resolve) => server.close(resolve))
  }
}

function listens(server: ReturnType<typeof createServer>, path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => (error.code === 'EADDRINUSE' ? resolve(false) : reject(error)))
    server.listen({ path }, () => resolve(true))
  })
}
