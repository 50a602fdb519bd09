import { spawnSync } from 'node:child_process'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/** The Debian packages behind the programs that the services need. */
const PACKAGES: Readonly<Record<string, string>> = {
  mosquitto: 'mosquitto',
  etcd: 'etcd-server',
  etcdctl: 'etcd-client',
  kcat: 'kcat',
  faketime: 'faketime',
  // Not a program; found from /usr/bin all the same.
  '../lib/python3/dist-packages/paho': 'python3-paho-mqtt',
  debootstrap: 'debootstrap',
  'systemd-nspawn': 'systemd-container',
  lintian: 'lintian',
  'qemu-aarch64-static': 'qemu-user-static',
  chromium: 'chromium',
  promtool: 'prometheus',
  buildah: 'buildah',
  podman: 'podman',
  runc: 'runc',
  java: 'default-jre-headless',
  mvn: 'maven',
}

/** Debian's rule for "may this package start its service now?"; 101 means no. */
const POLICY_FILE = '/usr/sbin/policy-rc.d'

/** Packages that are needed and not installed. */
export function missingPackages(path = process.env['PATH'] ?? ''): string[] {
  const folders = [...path.split(delimiter), '/usr/sbin', '/usr/bin']
  const isInstalled = (program: string): boolean => folders.some((folder) => existsSync(join(folder, program)))
  return Object.entries(PACKAGES).flatMap(([program, name]) => (isInstalled(program) ? [] : [name]))
}

export function installCommand(packages: readonly string[]): string {
  return `apt-get install -y --no-install-recommends ${packages.join(' ')}`
}

/**
 * Installs what is missing when we are root.
 * Otherwise, or when apt-get fails, rejects with the command that a user has to run.
 */
export function ensurePackages(): void {
  const packages = missingPackages()
  if (packages.length === 0) return
  const command = installCommand(packages)
  if (process.getuid?.() !== 0) throw new Error(`missing packages; run: sudo ${command}`)
  process.stderr.write(`installing ${packages.join(' ')}\n`)
  withoutServiceStarts(() => install(command))
  const left = missingPackages()
  if (left.length > 0) throw new Error(`still missing after the installation: ${left.join(' ')}; run: ${command}`)
  keepFromStartingAtBoot()
}

function install(command: string): void {
  if (apt(command)) return
  apt('apt-get update')
  if (!apt(command)) throw new Error(`the installation failed; run: apt-get update && ${command}`)
}

/** apt's own output goes to stderr: stdout belongs to our one line of JSON. */
function apt(command: string): boolean {
  const [file = '', ...args] = command.split(' ')
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  return spawnSync(file, args, { stdio: ['ignore', 2, 2], env }).status === 0
}

function withoutServiceStarts(action: () => void): void {
  const isOurs = !existsSync(POLICY_FILE)
  if (isOurs) writeFileSync(POLICY_FILE, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    action()
  } finally {
    if (isOurs) rmSync(POLICY_FILE)
  }
}

// Best effort: a container has no systemd, and then nothing starts at boot either.
function keepFromStartingAtBoot(): void {
  spawnSync('systemctl', ['disable', 'mosquitto', 'etcd', 'prometheus'], { stdio: ['ignore', 2, 2] })
}
