/** `edgectl device …`: who may connect to a listener of this box. */
import type { Command } from 'commander'
import { DaemonUnreachable } from '../../../adapters/control/client.ts'
import { alone, readIfThere, replaceFile } from '../../../adapters/host/replace-file.ts'
import { hashPassword, parsePasswordFile, withPassword } from '../../../adapters/mqtt/passwords.ts'
import { GatewayError, messageOf } from '../../errors.ts'
import type { PasswordsTaken } from '../../ports.ts'
import { command, load, type GlobalOptions } from '../ask.ts'
import { show } from '../figures.ts'
import { printable } from '../text.ts'
import { checkDeviceId, listenerOf, type DeviceListener } from './listener.ts'
import { madeUpPassword } from './password.ts'

interface DeviceOptions {
  readonly listener?: string
  readonly passwordStdin?: boolean
}

export function deviceCommands(program: Command): void {
  const device = program.command('device').description('which devices may connect to this box: its password file')
  changing(program, device, 'add', 'let a device connect; its password is made here and shown once', true)
  changing(program, device, 'passwd', 'give a device another password; who is connected by the old one is cut off', true)
  changing(program, device, 'revoke', 'let a device connect no more, and cut it off', false)
  device
    .command('list')
    .description('the names in the password file')
    .option('--listener <name>', 'of which listener, where several have a password file')
    .addHelpText('after', '\nExample:\n  edgectl device list')
    .action(({ listener }: DeviceOptions) => {
      const at = listenerOf(load(program.opts<GlobalOptions>()).settings, listener)
      const users = [...usersIn(at.passwordFile).keys()].sort()
      show(
        program,
        { schema: 1, listener: at.name, passwordFile: at.passwordFile, devices: users },
        users.map(printable).join('\n') || 'no device may connect yet',
      )
    })
}

type Action = 'add' | 'passwd' | 'revoke'

function changing(program: Command, device: Command, action: Action, description: string, hasPassword: boolean): void {
  const made = device
    .command(`${action} <id>`)
    .description(description)
    .option('--listener <name>', 'of which listener, where several have a password file')
  if (hasPassword) made.option('--password-stdin', 'read the password from standard input: one line')
  const examples = [
    `  edgectl device ${action} pump-7`,
    ...(hasPassword ? [`  edgectl device ${action} pump-7 --password-stdin < pump-7.secret`] : []),
  ]
  made
    .addHelpText('after', `\nExample:\n${examples.join('\n')}`)
    .action((id: string, options: DeviceOptions) => change(program, action, id, options))
}

async function change(program: Command, action: Action, id: string, options: DeviceOptions): Promise<void> {
  const global = program.opts<GlobalOptions>()
  const listener = listenerOf(load(global).settings, options.listener)
  checkDeviceId(id)
  const given = options.passwordStdin === true ? await passwordFromStdin() : undefined
  const password = action === 'revoke' ? undefined : (given ?? madeUpPassword())
  const hash = password === undefined ? undefined : await hashPassword(password)
  await alone(listener.passwordFile, () => {
    mayChange(action, id, usersIn(listener.passwordFile))
    replaceFile(listener.passwordFile, withPassword(readIfThere(listener.passwordFile) ?? '', id, hash))
  })
  const daemon = await tellDaemon(global, listener)
  const shown = given === undefined && password !== undefined ? { password } : {}
  const document = { schema: 1, action, device: id, listener: listener.name, passwordFile: listener.passwordFile, ...shown, daemon }
  show(program, document, textOf(action, id, listener, shown.password, daemon.words))
  if (!daemon.taken && daemon.state === 'refused') process.exitCode = 1
}

function usersIn(path: string): ReadonlyMap<string, unknown> {
  try {
    return parsePasswordFile(Buffer.from(readIfThere(path) ?? ''))
  } catch (error) {
    if (error instanceof GatewayError) throw error
    throw new GatewayError('rejected', `${path} can't be used as it stands, and was not changed: ${messageOf(error)}`, {
      remedy: 'correct that line first',
    })
  }
}

function mayChange(action: Action, id: string, users: ReadonlyMap<string, unknown>): void {
  const isThere = users.has(id)
  if (action === 'add' && isThere)
    throw new GatewayError('rejected', `${printable(id)} may connect already`, {
      remedy: `edgectl device passwd ${printable(id)} gives it another password`,
    })
  if (action !== 'add' && !isThere)
    throw new GatewayError('rejected', `there is no device ${printable(id)}`, { remedy: 'edgectl device list shows them' })
}

const PASSWORD_BYTES_MAX = 4_096

async function passwordFromStdin(): Promise<string> {
  if (process.stdin.isTTY)
    throw new GatewayError('rejected', '--password-stdin reads from a pipe or a file', {
      remedy: 'edgectl device add pump-7 --password-stdin < FILE',
    })
  let text = ''
  for await (const piece of process.stdin.setEncoding('utf8')) {
    text += String(piece)
    if (text.length > PASSWORD_BYTES_MAX) break
  }
  const password = text.replace(/\r?\n$/, '')
  if (password === '' || password.length > PASSWORD_BYTES_MAX || /[\r\n\0]/.test(password))
    throw new GatewayError('rejected', `standard input holds no password: one line of 1 to ${PASSWORD_BYTES_MAX} characters`)
  return password
}

interface DaemonSays {
  readonly state: 'taken' | 'away' | 'silent' | 'refused'
  readonly taken: boolean
  readonly cut?: number
  readonly words: string
}

/** The file is changed by now, whatever the daemon says: nothing is thrown. */
async function tellDaemon(global: GlobalOptions, { name, passwordFile }: DeviceListener): Promise<DaemonSays> {
  try {
    const taken = (await command(global, `/listeners/${encodeURIComponent(name)}/passwords`)) as PasswordsTaken
    return judged(taken, passwordFile)
  } catch (error) {
    if (!(error instanceof DaemonUnreachable))
      return { state: 'refused', taken: false, words: `the daemon has not taken it: ${messageOf(error)}` }
    if (error.why === 'silent')
      return { state: 'silent', taken: false, words: 'the daemon does not answer now; it reads the file as soon as it goes on' }
    return { state: 'away', taken: false, words: 'the daemon is not running; it reads the file when it starts' }
  }
}

function judged({ file, cut, fault }: PasswordsTaken, passwordFile: string): DaemonSays {
  if (fault !== undefined)
    return { state: 'refused', taken: false, words: `the daemon can't use the file, and goes on with the one before: ${fault}` }
  if (file !== passwordFile)
    return { state: 'refused', taken: false, words: `the running daemon still uses ${file}: systemctl reload edge-gateway` }
  const ended = cut === 0 ? '' : `, and has cut ${cut} ${cut === 1 ? 'connection' : 'connections'}`
  return { state: 'taken', taken: true, cut, words: `the running daemon has taken it${ended}` }
}

function textOf(action: Action, id: string, { url, deviceFrom }: DeviceListener, password: string | undefined, daemon: string): string {
  if (action === 'revoke') return `${printable(id)} may connect no more\n${daemon}`
  const lines = [
    action === 'add' ? `${printable(id)} may connect to ${url}` : `${printable(id)} has another password`,
    `  user name  ${printable(id)}`,
  ]
  if (password !== undefined) lines.push(`  password   ${password}   (shown once: write it down now)`)
  if (deviceFrom === 'username')
    lines.push(`  publishes to the topics of ${printable(id)} only, for example devices/${printable(id)}/logs/app`)
  return [...lines, daemon].join('\n')
}
