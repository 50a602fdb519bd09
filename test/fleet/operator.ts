/** An operator at the keyboard: keys, configurations, and the real commands against a real etcd. */
import { spawn } from 'node:child_process'
import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { publicTextOf } from '../../adapters/signing/keys.ts'
import { EDGECTL } from './setup.ts'

export interface Said {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

export interface Launched {
  readonly ended: Promise<Said>
  /** What it has printed so far. */
  out(): string
}

/** Starts the real command; whoever starts one that may not end kills it by the signal. */
export function launchEdgectl(
  words: readonly string[],
  options: { readonly env?: Record<string, string>; readonly signal?: AbortSignal } = {},
): Launched {
  const { env = {}, signal } = options
  const child = spawn(process.execPath, [EDGECTL, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
    ...(signal === undefined ? {} : { signal, killSignal: 'SIGKILL' as const }),
  })
  let [out, err] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text))
  const ended = new Promise<Said>((resolve, reject) => {
    child.once('error', (error) => (signal?.aborted === true ? undefined : reject(error)))
    child.once('close', (code) => resolve({ code, out, err }))
  })
  return { ended, out: () => out }
}

/** A key in a file, made as `patch keygen` does. */
export function keyFile(dir: string, name: string): { readonly file: string; readonly publicKey: string; readonly key: KeyObject } {
  const { privateKey: key } = generateKeyPairSync('ed25519')
  const file = join(dir, `${name}.key`)
  writeFileSync(file, key.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
  return { file, publicKey: publicTextOf(key), key }
}

export function writeYaml(dir: string, name: string, value: object): string {
  const file = join(dir, name)
  writeFileSync(file, stringify(value))
  return file
}

/** A patch of the configuration that every part accepts; changed at its first level by `changes`. */
export function patchDocument(id: string, changes: object = {}): object {
  return {
    ...{ apiVersion: 'edge/v1', kind: 'config', id, fleet: 'acme', channel: 'limits', sequence: 1 },
    expires: new Date(Date.now() + 86_400_000).toISOString(),
    target: { all: true },
    spec: { limits: { perDevice: { messagesPerSecond: 50 } } },
    health: { checks: ['pipeline-moving'], consecutive: 1, deadline: '10s', bake: '1s' },
    rollout: { stages: [{ count: 1 }, { percent: 100 }], concurrency: { scope: 'plant', slots: 2 }, maxFailures: { count: 0 } },
    ...changes,
  }
}
