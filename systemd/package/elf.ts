/**
 * Takes symbol tables and debugging notes out of a program, for any processor. `strip` knows only the machine's own, and
 * its result depends on its version. (ELF-64, little endian: System V gABI, chapters 4 and 5.)
 */

const SECTION_BYTES = 64
const ALLOC = 2n
const NOBITS = 8

interface Section {
  readonly header: Buffer
  readonly name: string
  readonly kept: boolean
}

/** Everything that is not loaded goes; what the loader reads, dynamic symbols included, keeps its place. */
export function strip(program: Buffer): Buffer {
  if (program.toString('latin1', 0, 6) !== '\x7fELF\x02\x01') throw new Error('not a 64-bit little-endian ELF file')
  const sections = readSections(program)
  const end = Math.max(...sections.filter(({ kept }) => kept).map(({ header }) => endOf(header)))
  const kept = sections.filter((section) => section.kept)
  const numberOf = new Map(kept.map((section, index) => [sections.indexOf(section), index]))
  const names = nameTable(kept.map(({ name }) => name))
  const tableAt = Math.ceil((end + names.bytes.length) / 8) * 8
  const head = Buffer.from(program.subarray(0, end))
  head.writeBigUInt64LE(BigInt(tableAt), 0x28)
  head.writeUInt16LE(kept.length + 1, 0x3c)
  head.writeUInt16LE(kept.length, 0x3e)
  const headers = kept.map(({ header }, index) => renumbered(header, names.starts[index] ?? 0, numberOf))
  const gap = Buffer.alloc(tableAt - end - names.bytes.length)
  return Buffer.concat([head, names.bytes, gap, ...headers, nameSection(names, kept.length, end)])
}

function readSections(program: Buffer): Section[] {
  const at = Number(program.readBigUInt64LE(0x28))
  const count = program.readUInt16LE(0x3c)
  const header = (index: number): Buffer => program.subarray(at + index * SECTION_BYTES, at + (index + 1) * SECTION_BYTES)
  const namesAt = startOf(header(program.readUInt16LE(0x3e)))
  return Array.from({ length: count }, (_, index) => {
    const from = namesAt + header(index).readUInt32LE(0)
    const name = program.toString('latin1', from, program.indexOf(0, from))
    return { header: header(index), name, kept: index === 0 || (header(index).readBigUInt64LE(8) & ALLOC) !== 0n }
  })
}

function startOf(header: Buffer): number {
  return Number(header.readBigUInt64LE(0x18))
}

function endOf(header: Buffer): number {
  return startOf(header) + (header.readUInt32LE(4) === NOBITS ? 0 : Number(header.readBigUInt64LE(0x20)))
}

interface Names {
  readonly bytes: Buffer
  readonly starts: readonly number[]
}

function nameTable(names: readonly string[]): Names {
  const starts: number[] = []
  let text = ''
  for (const name of [...names, '.shstrtab']) {
    starts.push(text.length)
    text += `${name}\0`
  }
  return { bytes: Buffer.from(text, 'latin1'), starts }
}

/** Sections refer to each other by number, and the numbers have changed. */
function renumbered(old: Buffer, name: number, numberOf: ReadonlyMap<number, number>): Buffer {
  const header = Buffer.from(old)
  header.writeUInt32LE(name, 0)
  header.writeUInt32LE(numberOf.get(header.readUInt32LE(0x28)) ?? 0, 0x28)
  const INFO_LINK = 0x40n
  if ((header.readBigUInt64LE(8) & INFO_LINK) !== 0n) header.writeUInt32LE(numberOf.get(header.readUInt32LE(0x2c)) ?? 0, 0x2c)
  return header
}

function nameSection(names: Names, index: number, at: number): Buffer {
  const header = Buffer.alloc(SECTION_BYTES)
  const STRTAB = 3
  header.writeUInt32LE(names.starts[index] ?? 0, 0)
  header.writeUInt32LE(STRTAB, 4)
  header.writeBigUInt64LE(BigInt(at), 0x18)
  header.writeBigUInt64LE(BigInt(names.bytes.length), 0x20)
  header.writeBigUInt64LE(1n, 0x30)
  return header
}
