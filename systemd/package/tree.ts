import { chmodSync, cpSync, lutimesSync, mkdirSync, readdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'

/** The files of a package while it is put together. Nothing in it depends on the umask, the clock or the folder it lies in. */
export class Tree {
  readonly root: string

  constructor(root: string) {
    this.root = root
  }

  write(path: string, content: string | Buffer, mode = 0o644): void {
    const target = this.#place(path)
    writeFileSync(target, content)
    chmodSync(target, mode)
  }

  /** As `gzip -9n` does it: no name and no time inside. */
  writeZipped(path: string, content: string | Buffer): void {
    const zipped = gzipSync(content, { level: 9 })
    // The system's number, which zlib takes from what it was built on (RFC 1952, 2.3.1).
    zipped[9] = 3
    this.write(path, zipped)
  }

  copy(path: string, source: string, mode = 0o644): void {
    const target = this.#place(path)
    cpSync(source, target)
    chmodSync(target, mode)
  }

  link(path: string, to: string): void {
    symlinkSync(to, this.#place(path))
  }

  folder(path: string): void {
    this.#place(join(path, '.'))
  }

  /** Paths below the root, sorted, with what they are. */
  entries(): { readonly path: string; readonly kind: 'file' | 'folder' | 'link' }[] {
    const found = readdirSync(this.root, { recursive: true, withFileTypes: true }).map((entry) => ({
      path: join(entry.parentPath, entry.name).slice(this.root.length + 1),
      kind: entry.isDirectory() ? ('folder' as const) : entry.isSymbolicLink() ? ('link' as const) : ('file' as const),
    }))
    return found.sort((a, b) => (a.path < b.path ? -1 : 1))
  }

  read(path: string): Buffer {
    return readFileSync(join(this.root, path))
  }

  /** The last step: one time for all, and rights of folders that no umask has touched. */
  seal(epochSeconds: number): void {
    for (const { path, kind } of this.entries().reverse()) {
      const target = join(this.root, path)
      if (kind === 'folder') chmodSync(target, 0o755)
      if (kind === 'link') lutimesSync(target, epochSeconds, epochSeconds)
      else utimesSync(target, epochSeconds, epochSeconds)
    }
    chmodSync(this.root, 0o755)
    utimesSync(this.root, epochSeconds, epochSeconds)
  }

  #place(path: string): string {
    const target = join(this.root, path)
    mkdirSync(dirname(target), { recursive: true })
    return target
  }
}
