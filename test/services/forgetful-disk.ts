/**
 * A disk that forgets: files and folders in memory, where only what was fsynced is sure to survive a power cut.
 * The rules are POSIX's own, stricter than ext4's: fsync of a file keeps its bytes and its size, and nothing of the
 * folder; a new, renamed or deleted name is kept by fsync of its folder.
 */

/** Uniform in [0, 1). */
export type Dice = () => number

/**
 * What a cut does to what was not synced. `forget`: all of it is gone. `tear`: each write survives by chance, whole,
 * in some of its sectors, or not at all; of the changes of names a prefix survives, as a journal would keep it.
 * `names`: all names survive, and no bytes: what delayed allocation makes of files that were not fsynced.
 */
export type Cut = { readonly kind: 'forget' } | { readonly kind: 'names' } | { readonly kind: 'tear'; readonly dice: Dice }

export interface CutReport {
  /** Writes (and cuts of length) that were not synced. */
  readonly unsynced: number
  /** Of these, gone or torn. */
  readonly damaged: number
  /** Names created, renamed or deleted and not synced. */
  readonly names: number
}

/** Sectors are written whole or not at all (SQLite's own assumption, "powersafe overwrite"). */
const SECTOR_BYTES = 512
/** A shorter link lies in the inode itself and comes with its name (ext4); the text of a longer one is data. */
const LONG_LINK_BYTES = 60
const ROOT = 1
const S_IFDIR = 0o040000

/** Bytes at a place, or a new length when `bytes` is undefined. */
interface Change {
  readonly at: number
  readonly bytes: Buffer | undefined
}

interface Edit {
  readonly folder: number
  readonly name: string
  /** Undefined: the name is gone. */
  readonly node: number | undefined
}

class Content {
  #bytes = Buffer.alloc(0)
  size = 0

  read(at: number, length: number): Buffer {
    return this.#bytes.subarray(Math.min(at, this.size), Math.min(at + length, this.size))
  }

  apply({ at, bytes }: Change): void {
    if (bytes === undefined) return this.#resize(at)
    if (at + bytes.length > this.size) this.#resize(at + bytes.length)
    bytes.copy(this.#bytes, at)
  }

  copy(): Content {
    const copied = new Content()
    copied.apply({ at: 0, bytes: this.read(0, this.size) })
    return copied
  }

  #resize(size: number): void {
    if (size > this.#bytes.length) {
      const grown = Buffer.alloc(Math.max(size, this.#bytes.length * 2))
      this.#bytes.copy(grown, 0, 0, this.size)
      this.#bytes = grown
    }
    if (size < this.size) this.#bytes.fill(0, size, this.size)
    this.size = size
  }
}

/** Mode and owner; chmod and chown are kept by fsync of the file or folder itself. */
export interface Owned {
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

export interface Node {
  readonly id: number
  mode: number
  uid: number
  gid: number
  owned: Owned
  mtimeMs: number
  readonly live: Content
  readonly synced: Content
  /** Since the last fsync, in order. */
  changes: Change[]
  readonly names: Map<string, number>
  syncedNames: Map<string, number>
}

export class ForgetfulDisk {
  #nodes = new Map<number, Node>()
  #edits: Edit[][] = []
  #next = ROOT
  syncs = 0

  constructor() {
    this.#add(S_IFDIR | 0o755)
  }

  node(id: number): Node | undefined {
    return this.#nodes.get(id)
  }

  isFolder(node: Node): boolean {
    return (node.mode & 0o170000) === S_IFDIR
  }

  find(folder: number, name: string): Node | undefined {
    const id = this.#nodes.get(folder)?.names.get(name)
    return id === undefined ? undefined : this.#nodes.get(id)
  }

  create(folder: number, name: string, mode: number): Node {
    const node = this.#add(mode)
    this.#edit([{ folder, name, node: node.id }])
    return node
  }

  remove(folder: number, name: string): void {
    this.#edit([{ folder, name, node: undefined }])
  }

  rename(folder: number, name: string, newFolder: number, newName: string): void {
    const node = this.find(folder, name)
    if (node === undefined) return
    this.#edit([
      { folder, name, node: undefined },
      { folder: newFolder, name: newName, node: node.id },
    ])
  }

  write(node: Node, at: number, bytes: Buffer): void {
    this.#change(node, { at, bytes: Buffer.from(bytes) })
  }

  truncate(node: Node, size: number): void {
    if (size !== node.live.size) this.#change(node, { at: size, bytes: undefined })
  }

  /** What a symbolic link says. */
  aim(node: Node, target: Buffer): void {
    if (target.length < LONG_LINK_BYTES) node.synced.apply({ at: 0, bytes: target })
    this.#change(node, { at: 0, bytes: target })
    if (target.length < LONG_LINK_BYTES) node.changes = []
  }

  own(node: Node, change: Partial<Owned>): void {
    Object.assign(node, change)
  }

  sync(node: Node): void {
    this.syncs += 1
    node.owned = ownedOf(node)
    for (const change of node.changes) node.synced.apply(change)
    node.changes = []
  }

  /** Names of the folder; what moved between two folders arrives whole. */
  syncNames(folder: number): void {
    this.syncs += 1
    const node = this.#nodes.get(folder)
    if (node !== undefined) node.owned = ownedOf(node)
    const touches = (edits: readonly Edit[]): boolean => edits.some((edit) => edit.folder === folder)
    for (const edits of this.#edits.filter(touches)) this.#keep(edits)
    this.#edits = this.#edits.filter((edits) => !touches(edits))
  }

  /** From here on the disk is what a machine finds when its power is back. */
  cut(cut: Cut): CutReport {
    const names = this.#edits.length
    const kept = cut.kind === 'forget' ? 0 : cut.kind === 'names' ? names : Math.floor(cut.dice() * (names + 1))
    for (const edits of this.#edits.slice(0, kept)) this.#keep(edits)
    this.#edits = []
    let unsynced = 0
    let damaged = 0
    for (const node of this.#nodes.values()) {
      unsynced += node.changes.length
      damaged += surviving(node, cut)
    }
    this.#restart()
    return { unsynced, damaged, names }
  }

  /** A disk of its own, as this one would be found after everything was synced. */
  copy(): ForgetfulDisk {
    const copied = new ForgetfulDisk()
    copied.#next = this.#next
    copied.#nodes = new Map()
    for (const node of this.#nodes.values()) {
      const names = new Map(node.names)
      const contents = { live: node.live.copy(), synced: node.live.copy(), changes: [] }
      copied.#nodes.set(node.id, { ...node, owned: ownedOf(node), ...contents, names, syncedNames: new Map(names) })
    }
    return copied
  }

  #add(mode: number): Node {
    const node: Node = {
      id: this.#next++,
      mode,
      uid: 0,
      gid: 0,
      owned: { mode, uid: 0, gid: 0 },
      mtimeMs: Date.now(),
      live: new Content(),
      synced: new Content(),
      changes: [],
      names: new Map(),
      syncedNames: new Map(),
    }
    this.#nodes.set(node.id, node)
    return node
  }

  #change(node: Node, change: Change): void {
    node.live.apply(change)
    node.changes.push(change)
    node.mtimeMs = Date.now()
  }

  #edit(edits: Edit[]): void {
    for (const { folder, name, node } of edits) setName(this.#nodes.get(folder)?.names, name, node)
    this.#edits.push(edits)
  }

  #keep(edits: readonly Edit[]): void {
    for (const { folder, name, node } of edits) setName(this.#nodes.get(folder)?.syncedNames, name, node)
  }

  /** Live becomes what is synced; what no name leads to is gone. */
  #restart(): void {
    const before = this.#nodes
    this.#nodes = new Map()
    const visit = (id: number): void => {
      const node = before.get(id)
      if (node === undefined || this.#nodes.has(id)) return
      this.#nodes.set(id, { ...node, ...node.owned, live: node.synced.copy(), changes: [], names: new Map(node.syncedNames) })
      for (const child of node.syncedNames.values()) visit(child)
    }
    visit(ROOT)
  }
}

function ownedOf({ mode, uid, gid }: Node): Owned {
  return { mode, uid, gid }
}

function setName(names: Map<string, number> | undefined, name: string, node: number | undefined): void {
  if (node === undefined) names?.delete(name)
  else names?.set(name, node)
}

/** Applies what survives of a node's changes; returns how many did not survive whole. */
function surviving(node: Node, cut: Cut): number {
  if (cut.kind !== 'tear') return node.changes.length
  if (cut.dice() < 0.5) node.owned = ownedOf(node)
  let damaged = 0
  for (const change of node.changes) {
    const fate = cut.dice()
    if (fate < 0.4) node.synced.apply(change)
    else damaged += 1
    if (fate >= 0.7 && change.bytes !== undefined) tear(node.synced, change.at, change.bytes, cut.dice)
  }
  return damaged
}

/** Some of the sectors that the write covers. */
function tear(content: Content, at: number, bytes: Buffer, dice: Dice): void {
  for (let from = 0; from < bytes.length;) {
    const to = Math.min(bytes.length, (Math.floor((at + from) / SECTOR_BYTES) + 1) * SECTOR_BYTES - at)
    if (dice() < 0.5) content.apply({ at: at + from, bytes: bytes.subarray(from, to) })
    from = to
  }
}
