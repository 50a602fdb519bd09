import { spawn, type ChildProcess } from 'node:child_process'
import { readFile, readdir, realpath } from 'node:fs/promises'
import { isAbsolute, resolve, sep } from 'node:path'
import { GatewayError, messageOf } from '../../daemon/errors.ts'
import { actAs, asOneself, type Account } from './identity.ts'

export interface HookCall {
  /** The first word is a file: relative to `folder` and inside it, or absolute in a system folder or below `root`. */
  readonly command: readonly string[]
  readonly timeoutMs: number
  /** The release; also the working folder. */
  readonly folder: string
  readonly root: string
  /** Added to PATH and LANG, which is all there is besides. */
  readonly environment: Readonly<Record<string, string>>
}

const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const OUTPUT_MAX_BYTES = 8 * 1_024
/** From SIGTERM to SIGKILL. */
const GRACE_MS = 2_000
/** All that a hook started carries this name in its environment, also what left its group of processes. */
const MARK = 'EDGE_RELEASE'

/**
 * Runs commands of a patch without a shell, in a group of their own, with nothing on stdin. What a command started ends
 * with it: a hook can't leave a program behind (a unit can).
 */
export class Hooks {
  readonly #graceMs: number
  readonly #account: Account | undefined

  /** `account`: whom the commands run as; only root may name another. */
  constructor(graceMs = GRACE_MS, account?: Account) {
    this.#graceMs = graceMs
    this.#account = account
  }

  /** How long a call may take in all. */
  limitMs(timeoutMs: number): number {
    return timeoutMs + this.#graceMs + 1_000
  }

  /** Its standard output. Rejects with `rejected` and the last lines of what it said; on abort with `transient`. */
  async run(call: HookCall, signal: AbortSignal): Promise<string> {
    const file = await programOf(call)
    const release = call.environment[MARK]
    // Left over from a life that was killed while the hook ran.
    if (release !== undefined) await this.#killMarked(release)
    signal.throwIfAborted()
    const ended = await asOneself(() => this.#end(file, call, signal))
    if (release !== undefined) await this.#killMarked(release)
    if (ended.verdict === 'ok') return ended.output
    const said = ended.said.trim().split('\n').slice(-5).join('\n')
    const kind = ended.verdict === 'cancelled' ? 'transient' : 'rejected'
    throw new GatewayError(kind, `${call.command.join(' ')} ${ended.verdict}${said === '' ? '' : `; it said: ${said}`}`)
  }

  async #end(file: string, call: HookCall, signal: AbortSignal): Promise<{ verdict: string; output: string; said: string }> {
    const child = spawn(file, call.command.slice(1), {
      cwd: call.folder,
      env: { PATH, LANG: 'C.UTF-8', ...call.environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
      ...this.#account,
    })
    const running = new Running(child, this.#graceMs)
    const verdict = await running.end(call.timeoutMs, signal)
    return { verdict, output: running.output, said: running.said }
  }

  /** As whom they run: nobody else may read their environment. */
  #killMarked(release: string): Promise<void> {
    return this.#account === undefined ? killMarked(release) : actAs(this.#account, () => killMarked(release))
  }
}

class Running {
  readonly #child: ChildProcess
  readonly #graceMs: number
  output = ''
  said = ''

  constructor(child: ChildProcess, graceMs: number) {
    this.#child = child
    this.#graceMs = graceMs
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.output = (this.output + text).slice(-OUTPUT_MAX_BYTES)
      this.said = (this.said + text).slice(-OUTPUT_MAX_BYTES)
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.said = (this.said + text).slice(-OUTPUT_MAX_BYTES)
    })
  }

  /** `ok`, `cancelled`, or what went wrong in words. */
  end(timeoutMs: number, signal: AbortSignal): Promise<string> {
    return new Promise((settle) => {
      let verdict: string | undefined
      const timers: NodeJS.Timeout[] = []
      const stop = (why: string): void => {
        if (verdict !== undefined) return
        verdict = why
        this.#kill('SIGTERM')
        timers.push(setTimeout(() => this.#kill('SIGKILL'), this.#graceMs))
      }
      const cancel = (): void => stop('cancelled')
      const over = (found: string): void => {
        timers.forEach(clearTimeout)
        signal.removeEventListener('abort', cancel)
        settle(verdict ?? found)
      }
      timers.push(setTimeout(() => stop(`did not end within ${timeoutMs} ms`), timeoutMs))
      signal.addEventListener('abort', cancel, { once: true })
      this.#child.once('error', (error) => over(`could not be started: ${messageOf(error)}`))
      this.#child.once('exit', (code, name) => {
        this.#kill('SIGKILL')
        const found = code === 0 ? 'ok' : code === null ? `was ended by ${name ?? 'a signal'}` : `ended with exit code ${code}`
        // Output that is under way; but a stray that holds the pipe does not hold us.
        timers.push(setTimeout(() => void (this.#child.stdout?.destroy(), this.#child.stderr?.destroy()), 500))
        this.#child.once('close', () => over(found))
      })
    })
  }

  #kill(signal: NodeJS.Signals): void {
    if (this.#child.pid === undefined) return
    try {
      process.kill(-this.#child.pid, signal)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}

/** The file to start, with all links resolved. */
async function programOf(call: HookCall): Promise<string> {
  const name = call.command[0] ?? ''
  const file = await realpath(resolve(call.folder, name)).catch((error: unknown) => {
    throw new GatewayError('rejected', `the command ${name} is not there: ${messageOf(error)}`)
  })
  const inside = async (folder: string): Promise<boolean> => file.startsWith(`${await realpath(folder)}${sep}`)
  if (await inside(isAbsolute(name) ? call.root : call.folder)) return file
  // Judged by its own name: what a system folder links to is the system's affair.
  if (
    PATH.split(':').some(
      (folder) =>
        resolve(name) === `${folder}${sep}${name.slice(folder.length + 1)}` &&
        isAbsolute(name) &&
        !name.slice(folder.length + 1).includes(sep),
    )
  )
    return name
  throw new GatewayError('rejected', `the command ${name} is outside of the release`, {
    remedy: `Use a file of the release, or an absolute path below ${call.root} or in one of ${PATH}.`,
  })
}

/** Whoever carries the mark, by /proc: a second fork and setsid don't hide it. Others' programs can't be read and are skipped. */
async function killMarked(release: string): Promise<void> {
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')
    if (!environment.split('\0').includes(`${MARK}=${release}`)) continue
    try {
      process.kill(Number(pid), 'SIGKILL')
    } catch (error) {
      if (!['ESRCH', 'EPERM'].includes(String((error as NodeJS.ErrnoException).code))) throw error
    }
  }
}
