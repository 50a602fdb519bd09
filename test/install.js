// Runs before the npm scripts, on whatever Node the machine has: installs the packages that a fresh clone lacks.
// Node 24 itself is one of them; npm puts it first on the path of every script.
import { spawnSync } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const installed = `${root}node_modules/.package-lock.json`
const wanted = `${root}package-lock.json`

if (!existsSync(installed) || statSync(installed).mtimeMs < statSync(wanted).mtimeMs) {
  console.error('installing packages (npm ci) …')
  // Standard output belongs to the script that follows; it may print JSON.
  const { status } = spawnSync('npm', ['ci', '--no-fund', '--no-audit'], { cwd: root, stdio: ['ignore', 2, 2] })
  if (status !== 0) {
    console.error('npm ci failed: see above; it needs a package registry')
    process.exit(status ?? 1)
  }
}
