/** Where imports lie: a folder each below `<dataDir>/imported`, with a buffer of its own and a note about it. */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { syncFolder, writeWhole } from '../../../adapters/host/durable.ts'
import { mib } from '../../../store/room.ts'
import { GatewayError, messageOf } from '../../errors.ts'
import type { ExportHead, ExportSum } from '../../move/file.ts'

const NOTE_FILE = 'import.json'
/** No gateway's id begins with a dot, so none of these is ever taken for an import, nor an import for one of these. */
const UNFINISHED = '.'
const BUILDING = `${UNFINISHED}building-`
const REMOVING = `${UNFINISHED}removing-`

export interface ImportNote {
  readonly schema: 1
  /** Of the export. */
  readonly id: string
  readonly gateway: string
  readonly prefix: string
  readonly topic: string | undefined
  readonly allowedTopics: readonly string[]
  readonly importedAt: string
  readonly messages: number
  /** Of payload; an older release noted none. */
  readonly bytes?: number
  /** Set when all else is delivered: what Kafka refused. */
  readonly deadLetters?: number
}

export function noteOf(head: ExportHead, { messages, bytes }: ExportSum, importedAt: string): ImportNote {
  const { id, gateway, prefix, topic, allowedTopics } = head
  return { schema: 1, id, gateway, prefix, topic, allowedTopics, importedAt, messages, bytes }
}

export class ImportFolder {
  readonly #root: string

  constructor(dataDir: string) {
    this.#root = join(dataDir, 'imported')
  }

  /** What is there, oldest first. What was begun and not finished goes; a note that can't be read is told. */
  open(tell: (text: string) => void): readonly ImportNote[] {
    if (!existsSync(this.#root)) return []
    const notes: ImportNote[] = []
    for (const name of readdirSync(this.#root)) {
      if (name.startsWith(UNFINISHED)) rmSync(join(this.#root, name), { recursive: true, force: true })
      else {
        try {
          notes.push(JSON.parse(readFileSync(join(this.#root, name, NOTE_FILE), 'utf8')) as ImportNote)
        } catch (error) {
          tell(
            `${join(this.#root, name)} can't be read (${messageOf(error)}): its messages wait; import the file again, then remove the folder`,
          )
        }
      }
    }
    return notes.sort((a, b) => (a.importedAt < b.importedAt ? -1 : 1))
  }

  /** An empty folder to build in. Throws `saturated` when the disk has no room. */
  build(key: string, bytes: number, minFreeBytes: number): string {
    const path = join(this.#root, BUILDING + key)
    mkdirSync(path, { recursive: true, mode: 0o750 })
    const disk = statfsSync(path)
    const free = disk.bavail * disk.bsize
    if (free >= bytes + minFreeBytes) return path
    rmSync(path, { recursive: true })
    throw new GatewayError('saturated', `the import may take ${mib(bytes)}, and the disk has ${mib(free)} free`, {
      remedy: `make room (${mib(minFreeBytes)} stay free: buffer.minFreeBytes), or import it on another box`,
    })
  }

  /** A built folder becomes an import. */
  accept(key: string, note: ImportNote): void {
    const path = join(this.#root, BUILDING + key)
    if (this.has(note)) throw new GatewayError('rejected', `this export of ${note.gateway} is here already`)
    this.#write(path, note)
    renameSync(path, this.pathOf(note))
    syncFolder(this.#root)
  }

  discard(key: string): void {
    rmSync(join(this.#root, BUILDING + key), { recursive: true, force: true })
  }

  rewrite(note: ImportNote): void {
    this.#write(this.pathOf(note), note)
  }

  /** The rename first: a folder that is half gone must not be taken for an import. */
  remove(note: ImportNote): void {
    const going = join(this.#root, REMOVING + note.id)
    renameSync(this.pathOf(note), going)
    syncFolder(this.#root)
    rmSync(going, { recursive: true, force: true })
  }

  has(note: Pick<ImportNote, 'gateway' | 'id'>): boolean {
    return existsSync(this.pathOf(note))
  }

  pathOf({ gateway, id }: Pick<ImportNote, 'gateway' | 'id'>): string {
    return join(this.#root, `${gateway}.${id}`)
  }

  #write(folder: string, note: ImportNote): void {
    writeWhole(join(folder, NOTE_FILE), JSON.stringify(note), 0o640)
  }
}
