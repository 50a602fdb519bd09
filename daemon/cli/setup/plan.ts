/** The file as it is, as the answers make it, and the step between the two. */
import { accessSync, constants } from 'node:fs'
import { dirname } from 'node:path'
import { readIfThere, replaceFile } from '../../../adapters/host/replace-file.ts'
import { changes as settingsChanges } from '../../../config/changes.ts'
import { editConfig, type ConfigChange } from '../../../config/edit.ts'
import { thisHost } from '../../../config/host.ts'
import type { Json } from '../../../config/merge.ts'
import { loadConfig } from '../../../config/load.ts'
import { formatProblem } from '../../../config/problem.ts'
import type { Settings } from '../../../config/settings.ts'
import { GatewayError, messageOf } from '../../errors.ts'
import { changesOf, type Place, type QuestionName } from './answers.ts'

const HEAD = '# The configuration of the edge gateway. Every key: /usr/share/doc/edge-gateway/example.yaml\n'

export class Plan {
  readonly path: string
  readonly place: Place
  readonly #before: string | undefined
  readonly #changes = new Map<QuestionName, readonly ConfigChange[]>()

  /** Throws when the file can't be read or written, or is not valid as it stands. */
  constructor(path: string) {
    mayWrite(path)
    this.path = path
    this.#before = readIfThere(path)
    const { settings, effective } = loadConfig(path, [], thisHost(), this.#before ?? '')
    const written = effective.find(
      ({ path: [first, second], origin }) => first === 'mqtt' && second === 'listen' && origin.source !== 'default',
    )
    this.place = { folder: dirname(path), now: settings, listener: written === undefined ? 'lan' : String(written.path[2]) }
  }

  /** Takes an answer, and returns what the daemon would run on. Throws a ConfigError, and forgets the answer, when that is not valid. */
  answer(name: QuestionName, answer: Json): { readonly settings: Settings; readonly warnings: readonly string[] } {
    const before = this.#changes.get(name)
    this.#changes.set(name, changesOf(name, answer, this.place))
    try {
      const { settings, warnings } = loadConfig(this.path, [], thisHost(), this.text)
      return { settings, warnings: warnings.map(formatProblem) }
    } catch (error) {
      if (before === undefined) this.#changes.delete(name)
      else this.#changes.set(name, before)
      throw error
    }
  }

  get text(): string {
    const changes = [...this.#changes.values()].flat()
    if (changes.length === 0) return this.#before ?? HEAD
    try {
      return `${this.#before === undefined ? HEAD : ''}${editConfig(this.#before ?? '', changes)}`
    } catch (error) {
      throw new GatewayError('rejected', `${this.path}: ${messageOf(error)}`)
    }
  }

  get isNew(): boolean {
    return this.text !== this.#before
  }

  /** Returns where the file of before is now. */
  write(stamp: string): string | undefined {
    const backup = this.#before === undefined ? undefined : `${this.path}.${stamp}.bak`
    if (backup !== undefined) replaceFile(backup, this.#before ?? '')
    replaceFile(this.path, this.text)
    return backup
  }

  /** What to type next. `isRunning`: a daemon answers. */
  next(settings: Settings, isRunning: boolean): readonly string[] {
    const { now } = this.place
    const changed = settingsChanges(now, settings).map(({ path }) => path)
    const later = changed.some((key) => /^(gateway\.(id|dataDir)|etcd|patches|control|kafka\.prefix)/.test(String(key)))
    const unit = !isRunning
      ? 'systemctl enable --now edge-gateway'
      : later
        ? 'systemctl restart edge-gateway'
        : 'systemctl reload edge-gateway'
    const hasPasswords = Object.values(settings.mqtt.listen).some(({ auth }) => auth.kind === 'required' && auth.passwordFile !== undefined)
    return [
      ...(settings.kafka === undefined ? [] : ['sudo edgectl kafka setup']),
      `sudo ${unit}`,
      ...(hasPasswords ? ['sudo edgectl device add NAME'] : []),
      'edgectl doctor',
    ]
  }
}

function mayWrite(path: string): void {
  try {
    accessSync(dirname(path), constants.W_OK)
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException).code === 'ENOENT'
    const message = isMissing ? `there is no folder ${dirname(path)}` : `this user may not write to ${dirname(path)}`
    throw new GatewayError('rejected', message, { cause, remedy: isMissing ? `mkdir -p ${dirname(path)}` : 'sudo edgectl setup' })
  }
}
