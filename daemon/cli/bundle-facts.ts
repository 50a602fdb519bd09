/** What lies in the data folder, and what the box says of itself. Everything here may fail, and then says why. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'

const FILES_MAX = 500
const DEPTH_MAX = 4

/** `bytes  modified  name`, of the folder and what is below it. */
export function listing(folder: string): string {
  const lines: string[] = []
  const walk = (path: string, depth: number): void => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (lines.length >= FILES_MAX) return
      const inner = join(path, entry.name)
      lines.push(lineOf(inner, relative(folder, inner)))
      if (entry.isDirectory() && depth < DEPTH_MAX) walk(inner, depth + 1)
    }
  }
  walk(folder, 1)
  return lines.length >= FILES_MAX ? [...lines, `… only the first ${FILES_MAX}`].join('\n') : lines.join('\n')
}

function lineOf(path: string, name: string): string {
  const found = statSync(path, { throwIfNoEntry: false })
  if (found === undefined) return `${'-'.padStart(14)}  ${'-'.padEnd(20)}  ${name}`
  const rights = (found.mode & 0o7777).toString(8).padStart(4, '0')
  return `${String(found.size).padStart(14)}  ${found.mtime.toISOString().slice(0, 19)}Z  ${rights} ${found.uid}:${found.gid}  ${name}`
}

const SYSTEM = [
  '/etc/os-release',
  '/proc/version',
  '/proc/uptime',
  '/proc/loadavg',
  '/proc/meminfo',
  '/proc/self/mountinfo',
  '/proc/diskstats',
]

export function systemFacts(): string {
  return SYSTEM.map((path) => `== ${path}\n${content(path)}\n`).join('\n')
}

function content(path: string): string {
  try {
    return readFileSync(path, 'utf8').slice(0, 64 << 10)
  } catch (error) {
    return `(${(error as NodeJS.ErrnoException).code ?? 'not readable'})`
  }
}
