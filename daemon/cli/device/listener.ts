/** Which listener's password file a command is about, and what a device's name may be. */
import type { Settings } from '../../../config/settings.ts'
import { GatewayError } from '../../errors.ts'
import { printable } from '../text.ts'

export interface DeviceListener {
  readonly name: string
  readonly url: string
  readonly passwordFile: string
  readonly deviceFrom: 'username' | 'clientId' | 'commonName'
}

/** Throws `rejected` when none has a password file, or several have and none is named. */
export function listenerOf({ mqtt }: Settings, wanted: string | undefined): DeviceListener {
  const all = Object.entries(mqtt.listen).filter(([name]) => wanted === undefined || name === wanted)
  const open = all.flatMap(([name, { url, auth }]) =>
    auth.kind === 'none' || auth.passwordFile === undefined
      ? []
      : [{ name, url: url.href, passwordFile: auth.passwordFile, deviceFrom: auth.deviceFrom }],
  )
  const [only, ...others] = open
  if (only !== undefined && others.length === 0) return only
  if (only !== undefined) {
    const names = open.map(({ name }) => name).join(', ')
    throw new GatewayError('rejected', `several listeners have a password file: ${names}`, { remedy: `add --listener ${only.name}` })
  }
  throw withoutPasswords(Object.keys(mqtt.listen), all.length, wanted)
}

function withoutPasswords(names: readonly string[], found: number, wanted: string | undefined): GatewayError {
  if (wanted !== undefined && found === 0)
    return new GatewayError('rejected', `there is no mqtt.listen.${printable(wanted)}`, {
      remedy: `there are: ${names.join(', ') || 'none'}`,
    })
  if (names.length === 0) {
    const remedy = 'give devices their passwords at the broker that they connect to, or let them connect here: edgectl setup'
    return new GatewayError('rejected', 'devices do not connect to this box: it has no listener', { remedy })
  }
  const remedy = `write mqtt: { listen: { ${wanted ?? names[0]}: { auth: { passwordFile: /etc/edge-gateway/devices.passwd } } } }, or run edgectl setup`
  return new GatewayError('rejected', 'devices connect to this box without a password: no listener has a password file', { remedy })
}

const NAME_MAX = 256

/** A device publishes under its own name, so that must be one level of a topic; and a user name of the file. */
export function checkDeviceId(id: string): void {
  const why = faultIn(id)
  if (why === undefined) return
  const remedy = 'write letters, digits, "-", "_" or ".", for example pump-7'
  throw new GatewayError('rejected', `${printable(JSON.stringify(id.slice(0, 80)))} can't be a device's name: ${why}`, { remedy })
}

function faultIn(id: string): string | undefined {
  if (id === '') return 'it is empty'
  if (id.length > NAME_MAX) return `it has more than ${NAME_MAX} characters`
  if (/[/+#]/.test(id)) return 'it is a level of a topic, and has no "/", "+" or "#"'
  if (id.includes(':')) return 'a ":" ends the name in a password file'
  if (id !== id.trim()) return 'it begins or ends with a space'
  return printable(id) === id && id.isWellFormed() ? undefined : 'it has characters that nobody can see'
}
