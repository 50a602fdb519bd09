import { spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * A running program that can be told apart from a later one with the same pid:
 * the kernel's start time (clock ticks since boot) and the command line.
 */
export interface ProgramIdentity {
  readonly pid: number
  readonly startTicks: number
  readonly command: string
}

export interface LaunchSpec {
  readonly file: string
  readonly args: readonly string[]
  readonly logFile: string
  readonly env?: Readonly<Record<string, string>>
}

export interface Launched {
  readonly program: ProgramIdentity
  /** From here on the program outlives us. Before that it ends when we end, however we end. */
  readonly release: () => void
}

interface StatFields {
  readonly state: string
  readonly startTicks: number
}

/** /proc/<pid>/stat; the name in brackets may hold spaces, so fields count from the last bracket. */
function readStat(pid: number): StatFields | undefined {
  const text = readProcFile(pid, 'stat')
  if (text === undefined) return undefined
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return { state: fields[0] ?? '', startTicks: Number(fields[19]) }
}

function readProcFile(pid: number, name: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ESRCH') return undefined
    throw error
  }
}

/** Who runs under this pid now, or undefined when nobody does (a zombie is nobody). */
export function identify(pid: number): ProgramIdentity | undefined {
  const stat = readStat(pid)
  const command = readProcFile(pid, 'cmdline')
  if (stat === undefined || command === undefined || 'ZX'.includes(stat.state)) return undefined
  return { pid, startTicks: stat.startTicks, command: command.replaceAll('\0', ' ').trim() }
}

/** True while the very same program runs, also when it is paused. */
export function isAlive(program: ProgramIdentity): boolean {
  const now = identify(program.pid)
  return now !== undefined && now.startTicks === program.startTicks && now.command === program.command
}

/** Sends a signal to exactly this program. False: it has gone already, nothing was sent. */
export function signalProgram(program: ProgramIdentity, signal: NodeJS.Signals): boolean {
  if (!isAlive(program)) return false
  try {
    return process.kill(program.pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
    throw error
  }
}

/** Waits until the program has gone; false when it still runs after `timeoutMs`. */
export async function waitForEnd(program: ProgramIdentity, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs
  while (isAlive(program)) {
    if (performance.now() >= deadline) return false
    await sleep(10)
  }
  return true
}

/** SIGTERM, then SIGKILL after `graceMs`. A paused program is woken, or it would not see the SIGTERM. */
export async function endProgram(program: ProgramIdentity, graceMs: number): Promise<void> {
  signalProgram(program, 'SIGTERM')
  signalProgram(program, 'SIGCONT')
  if (await waitForEnd(program, graceMs)) return
  signalProgram(program, 'SIGKILL')
  if (!(await waitForEnd(program, 10_000))) {
    throw new Error(`pid ${program.pid} did not end after SIGKILL: ${program.command}`)
  }
}

/** Starts a program in a session of its own, with its output appended to `logFile`. */
export async function launch(spec: LaunchSpec): Promise<Launched> {
  const log = openSync(spec.logFile, 'a')
  const child = spawn(spec.file, spec.args, {
    stdio: ['ignore', log, log],
    detached: true,
    env: { ...process.env, ...spec.env },
  })
  closeSync(log)
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', (cause) => reject(new Error(`cannot run ${spec.file}: ${cause.message}`, { cause })))
  })
  const pid = child.pid as number
  const release = guard(pid)
  child.once('exit', release)
  child.unref()
  const program = identify(pid)
  if (program === undefined) throw new Error(`${spec.file} ended during its start; ${spec.logFile} ends with:\n${lastLines(spec.logFile)}`)
  return { program, release }
}

/**
 * A shell that waits on a pipe from us. End of file means that we died, so it
 * kills the program; a line means that it is to leave it alone.
 */
function guard(pid: number): () => void {
  const script = `read -r line || kill -KILL ${pid}`
  const shell = spawn('/bin/sh', ['-c', script], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
  const pipe = shell.stdin
  pipe.on('error', () => undefined) // the shell was killed: the guard is lost, not the test
  shell.unref()
  ;(pipe as unknown as { unref(): void }).unref()
  return () => void (pipe.writable && pipe.end('released\n'))
}

/** The end of a log file, for error texts. */
export function lastLines(file: string, count = 25): string {
  if (!existsSync(file)) return `(${file} does not exist)`
  return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-count).join('\n')
}
