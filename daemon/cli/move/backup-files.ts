/** The folder of a backup: files, and a manifest with their digests. */
import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { copyFile, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { faultOf } from '../../../store/stopped-copy.ts'
import { GatewayError, messageOf } from '../../errors.ts'
import { syncPath } from './write-file.ts'

const MANIFEST = 'manifest.json'
const FORMAT = 1

export interface BackupFile {
  readonly name: string
  readonly bytes: number
  readonly sha256: string
}

export interface Manifest {
  readonly edgeGatewayBackup: typeof FORMAT
  readonly gateway: string
  readonly version: string
  readonly at: string
  readonly withKey: boolean
  readonly files: readonly BackupFile[]
}

/** A folder that counts only once it is complete. */
export class BackupFolder {
  readonly path: string
  readonly #building: string
  readonly #files: BackupFile[] = []

  constructor(path: string) {
    this.path = path
    this.#building = `${path}.partial`
  }

  /** Where files may be written, to be told by `note`. */
  async begin(): Promise<string> {
    if (existsSync(this.path)) throw new GatewayError('rejected', `${this.path} is there already`, { remedy: 'choose another --out' })
    const parent = dirname(this.path)
    if (!existsSync(parent))
      throw new GatewayError('rejected', `there is no folder ${parent}`, { remedy: 'mount the stick; lsblk shows where it is' })
    try {
      await rm(this.#building, { recursive: true, force: true })
      // One by one: Node's recursive `mkdir` never ends where a file system refuses with ENOENT.
      for (const path of [this.#building, join(this.#building, 'config'), join(this.#building, 'config', 'config.d')])
        await mkdir(path, { mode: 0o700 })
    } catch (error) {
      throw mediumFails(parent, error)
    }
    return this.#building
  }

  async copy(from: string, name: string): Promise<void> {
    await copyFile(from, join(this.#building, name)).catch((error: unknown) => {
      throw mediumFails(dirname(this.path), error)
    })
    await this.note(name)
  }

  async note(name: string): Promise<void> {
    const path = join(this.#building, name)
    await syncPath(path)
    this.#files.push({ name, bytes: (await stat(path)).size, sha256: await digestOf(path) })
  }

  async finish(facts: Omit<Manifest, 'edgeGatewayBackup' | 'files'>): Promise<Manifest> {
    const manifest: Manifest = { edgeGatewayBackup: FORMAT, ...facts, files: this.#files }
    await writeFile(join(this.#building, MANIFEST), `${JSON.stringify(manifest, undefined, 2)}\n`, { flush: true })
    await syncPath(this.#building)
    await rename(this.#building, this.path)
    await syncPath(dirname(this.path))
    return manifest
  }

  async discard(): Promise<void> {
    await rm(this.#building, { recursive: true, force: true })
  }
}

/** Throws `rejected` that names what is wrong. */
export async function checkBackup(path: string): Promise<Manifest> {
  const manifest = await readManifest(path)
  for (const { name, bytes, sha256 } of manifest.files) {
    const file = join(path, name)
    if (!existsSync(file)) throw damaged(`${name} is missing`)
    if ((await stat(file)).size !== bytes || (await digestOf(file)) !== sha256) throw damaged(`${name} is not what was written`)
    const fault = name.endsWith('.db') ? faultOf(file) : undefined
    if (fault !== undefined) throw damaged(`${name} is no whole database: ${fault}`)
  }
  return manifest
}

async function readManifest(path: string): Promise<Manifest> {
  try {
    const manifest = JSON.parse(await readFile(join(path, MANIFEST), 'utf8')) as Manifest
    if (manifest.edgeGatewayBackup === FORMAT && Array.isArray(manifest.files)) return manifest
  } catch (error) {
    throw new GatewayError('rejected', `${path} holds no complete backup: ${messageOf(error)}`, {
      remedy: `name the folder that holds ${MANIFEST}; one that ends with .partial was not finished`,
    })
  }
  throw new GatewayError('rejected', `${basename(path)} is no backup that this release reads`)
}

/** Names of the configuration's files, for the folder `config`. */
export async function configFiles(configFile: string): Promise<readonly string[]> {
  const folder = join(dirname(configFile), 'config.d')
  const more = existsSync(folder) ? (await readdir(folder)).filter((name) => /\.ya?ml$/.test(name)).sort() : []
  return [...(existsSync(configFile) ? [configFile] : []), ...more.map((name) => join(folder, name))]
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) hash.update(chunk)
  return hash.digest('hex')
}

function mediumFails(folder: string, error: unknown): GatewayError {
  const full = (error as NodeJS.ErrnoException).code === 'ENOSPC'
  return new GatewayError('rejected', full ? `${folder} is full` : `${folder} can't be written: ${messageOf(error)}`, {
    remedy: 'name a place with more room, or another medium',
    cause: error,
  })
}

function damaged(what: string): GatewayError {
  return new GatewayError('rejected', `the backup is damaged: ${what}`, { remedy: 'do not restore it; use another one' })
}
