/** What files and folders of the gateway's look like from outside, and which certificate a file holds. */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { accessSync, constants, readFileSync, statSync } from 'node:fs'
import type { CertificateFound, FileFound } from '../../daemon/doctor/facts.ts'

export function lookAtFile(path: string): FileFound {
  try {
    const { mode, uid, gid, size } = statSync(path)
    const isFolder = (mode & constants.S_IFMT) === constants.S_IFDIR
    return {
      path,
      mode: mode & 0o7777,
      uid,
      gid,
      isFolder,
      bytes: size,
      readable: may(path, constants.R_OK),
      writable: may(path, constants.W_OK),
    }
  } catch (error) {
    return { path, readable: false, writable: false, code: (error as NodeJS.ErrnoException).code ?? 'unknown' }
  }
}

function may(path: string, right: number): boolean {
  try {
    accessSync(path, right)
    return true
  } catch {
    // The answer itself: no right.
    return false
  }
}

/** Of the first certificate in a PEM file. Nothing of the files is repeated. */
export function lookAtCertificate(path: string, keyPath?: string): CertificateFound {
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(readFileSync(path))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return { path, fault: code === 'ENOENT' || code === 'EACCES' ? code : 'it holds no PEM certificate' }
  }
  const { subject, subjectAltName: names, validFrom, validTo } = certificate
  const found = {
    path,
    subject: subject.replaceAll('\n', ', '),
    names: names ?? '',
    validFromMs: Date.parse(validFrom),
    validToMs: Date.parse(validTo),
  }
  return keyPath === undefined ? found : { ...found, ...matched(certificate, keyPath) }
}

function matched(certificate: X509Certificate, keyPath: string): Pick<CertificateFound, 'keyMatches' | 'fault'> {
  try {
    return { keyMatches: certificate.checkPrivateKey(createPrivateKey(readFileSync(keyPath))) }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return {
      fault: `the key ${keyPath} ${code === 'ENOENT' ? 'is missing' : code === 'EACCES' ? "can't be read" : 'is no PEM key that can be read without a passphrase'}`,
    }
  }
}
