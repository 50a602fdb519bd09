/** Is a file a database at all? */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { DamagedFile } from './damage.ts'

/** SQLite file format, 1.3. */
const HEADER = 'SQLite format 3\0'

/** Before SQLite touches it: with a shortened main file it would throw the WAL away. */
export function checkHeader(path: string): void {
  const fd = openSync(path, 'r')
  try {
    const { size } = fstatSync(fd)
    if (size === 0) throw new DamagedFile('the file is empty')
    const head = Buffer.alloc(HEADER.length)
    readSync(fd, head, 0, head.length, 0)
    if (head.toString('latin1') !== HEADER) throw new DamagedFile('the file does not begin like a database')
  } finally {
    closeSync(fd)
  }
}
