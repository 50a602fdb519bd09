/** Passwords that were typed: in files of their own, for the checks in a folder that only this user may read. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { readIfThere, replaceFile } from '../../../adapters/host/replace-file.ts'
import { hashPassword, withPassword } from '../../../adapters/mqtt/passwords.ts'
import type { Settings } from '../../../config/settings.ts'
import { madeUpPassword } from '../device/password.ts'

const PAGE_USER = 'admin'

export class Secrets {
  readonly #files = new Map<string, string>()
  readonly #shown: string[] = []
  #folder: string | undefined

  put(path: string, secret: string): void {
    this.#files.set(path, `${secret}\n`)
  }

  /** A hash in the format of mosquitto_passwd; an empty password is made up, and told at the end. */
  async pagePassword(path: string, typed: string): Promise<void> {
    const password = typed === '' ? madeUpPassword() : typed
    this.#files.set(path, withPassword(readIfThere(path) ?? '', PAGE_USER, await hashPassword(password)))
    this.#shown.push(
      `the page: user ${PAGE_USER}, password ${typed === '' ? `${password}   (shown once: write it down now)` : 'as you typed it'}`,
    )
  }

  /** Files that a listener or the page needs to start at all, where they are missing. */
  async complete({ mqtt, page }: Settings): Promise<void> {
    for (const { auth } of Object.values(mqtt.listen))
      if (auth.kind === 'required' && auth.passwordFile !== undefined && readIfThere(auth.passwordFile) === undefined)
        this.#files.set(auth.passwordFile, '')
    const file = page.listen === undefined ? undefined : page.passwordFile
    if (file !== undefined && !this.#files.has(file) && readIfThere(file) === undefined) await this.pagePassword(file, '')
  }

  get paths(): readonly string[] {
    return [...this.#files.keys()]
  }

  get toSay(): readonly string[] {
    return this.#shown
  }

  /** The settings as they are to be, with the typed passwords where they can be read already. */
  inPlace(settings: Settings): Settings {
    if (this.#files.size === 0) return settings
    this.#folder ??= mkdtempSync(join(tmpdir(), 'edgectl-setup-'))
    const folder = this.#folder
    const places = new Map([...this.#files].map(([path, secret]) => [path, written(join(folder, basename(path)), secret)]))
    return replaced(settings, places) as Settings
  }

  save(): void {
    for (const [path, secret] of this.#files) replaceFile(path, secret)
  }

  forget(): void {
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true })
  }
}

function written(path: string, secret: string): string {
  writeFileSync(path, secret, { mode: 0o600 })
  return path
}

function replaced(value: unknown, places: ReadonlyMap<string, string>): unknown {
  if (typeof value === 'string') return places.get(value) ?? value
  if (Array.isArray(value)) return value.map((item) => replaced(item, places))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, replaced(item, places)]))
}
