/** A copy of the program with a line changed: how a test shows that it would notice the fault. */
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const FOLDERS = ['daemon', 'adapters', 'store', 'config']

export interface Patch {
  /** From the repository's root. */
  readonly file: string
  readonly from: string
  readonly to: string
}

/** Makes the copy in `dir` and returns the path of its program. Rejects when a line to be changed is not there once. */
export async function patchedProgram(dir: string, patches: readonly Patch[]): Promise<string> {
  await mkdir(dir, { recursive: true })
  for (const folder of FOLDERS) await cp(join(ROOT, folder), join(dir, folder), { recursive: true })
  await cp(join(ROOT, 'package.json'), join(dir, 'package.json'))
  await symlink(join(ROOT, 'node_modules'), join(dir, 'node_modules'))
  for (const { file, from, to } of patches) {
    const text = await readFile(join(dir, file), 'utf8')
    if (text.split(from).length !== 2) throw new Error(`${file} does not hold "${from}" exactly once; mend the test`)
    await writeFile(join(dir, file), text.replace(from, to))
  }
  return join(dir, 'daemon', 'edge-gateway.js')
}
