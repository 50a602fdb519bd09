/** Private keys in files: PEM (PKCS 8), mode 0600, durable before anyone relies on them. */
import { createPrivateKey, generateKeyPairSync } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { closeSync, fchmodSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { GatewayError, messageOf } from '../../daemon/errors.ts'

/** `undefined` when there is no such file. Rejected when it holds no ed25519 private key. */
export function readPrivateKey(path: string): KeyObject | undefined {
  const text = readText(path)
  if (text === undefined) return undefined
  const key = parsedKey(text)
  if (key?.asymmetricKeyType === 'ed25519') return key
  throw new GatewayError('rejected', `${path} holds no ed25519 private key (PEM, PKCS 8)`)
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new GatewayError('rejected', `the key ${path} can't be read: ${messageOf(error)}`, { cause: error })
  }
}

function parsedKey(text: string): KeyObject | undefined {
  try {
    return createPrivateKey(text)
  } catch {
    return undefined
  }
}

/** Makes a key and refuses to take the place of a file. */
export function createPrivateKeyFile(path: string): KeyObject {
  const { privateKey } = generateKeyPairSync('ed25519')
  try {
    writeDurably(path, pemOf(privateKey))
  } catch (error) {
    const exists = (error as NodeJS.ErrnoException).code === 'EEXIST'
    const remedy = exists ? { remedy: 'write --out with another name; a key that was overwritten is lost' } : {}
    throw new GatewayError('rejected', exists ? `${path} exists already` : `the key ${path} can't be written: ${messageOf(error)}`, {
      ...remedy,
      cause: error,
    })
  }
  syncFolder(dirname(path))
  return privateKey
}

/** As above, for a file that must appear whole or not at all; a half-made one of an earlier life is thrown away. */
export function createPrivateKeyAtomically(path: string): KeyObject {
  const { privateKey } = generateKeyPairSync('ed25519')
  const made = `${path}.new`
  rmSync(made, { force: true })
  writeDurably(made, pemOf(privateKey))
  renameSync(made, path)
  syncFolder(dirname(path))
  return privateKey
}

function pemOf(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString()
}

function writeDurably(path: string, text: string): void {
  const fd = openSync(path, 'wx', 0o600)
  try {
    // The umask may have taken away more than the mode says.
    fchmodSync(fd, 0o600)
    writeFileSync(fd, text)
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

function syncFolder(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
