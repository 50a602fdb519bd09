/** From how far we got to a peer to what is wrong there. Pure. */
import { duration } from '../health.ts'
import type { Findings } from './check.ts'
import type { CertificateFound, Reach, Step, TlsFound } from './facts.ts'

export interface PeerWords {
  /** Begins the names of its checks: `kafka-1:9092`. */
  readonly name: string
  /** The keys to look at: `kafka.brokers`, and `kafka.tls`. */
  readonly address: string
  readonly tls: string
  /** Whether TLS is spoken to it. */
  readonly secure: boolean
  /** Where the name comes from when it stands in no file of this box: instead of the remedy for a name that can't be resolved. */
  readonly nameRemedy?: string
}

/** What follows would say only that this failed. */
export type Outcome = { readonly reached: true } | { readonly reached: false; readonly failed: string }

const DAY_MS = 86_400_000
/** Long enough for whoever issues it. */
const EXPIRES_SOON_MS = 30 * DAY_MS

/** `nowMs`: the box's own clock, which may be what is wrong. */
export function judgeReach(found: Reach, words: PeerWords, nowMs: number, findings: Findings): Outcome {
  const steps = [['dns', found.dns], ['tcp', found.tcp], ...(words.secure ? [['tls', found.tls] as const] : [])] as const
  let failed: string | undefined
  for (const [step, outcome] of steps) {
    const name = `${words.name} ${step}`
    if (failed !== undefined) findings.skipBecause(name, failed)
    else if (outcome === undefined) continue
    else if (!isGood(step, outcome, found, { ...words, name }, nowMs, findings)) failed = name
  }
  return failed === undefined ? { reached: true } : { reached: false, failed }
}

function isGood(step: 'dns' | 'tcp' | 'tls', outcome: Step, found: Reach, words: PeerWords, nowMs: number, findings: Findings): boolean {
  const { name, address } = words
  if (step === 'tls') return judgeTls(outcome as Step<TlsFound>, found, words, nowMs, findings)
  if (outcome.ok) {
    const what = step === 'dns' ? (outcome as Step<{ addresses: readonly string[] }> & { ok: true }).addresses.join(', ') : 'connected'
    findings.ok(name, `${what} (${outcome.ms} ms)`)
    return true
  }
  const { finding, remedy } = step === 'dns' ? nameFault(outcome, found, words) : portFault(outcome, found, address)
  findings.fail(name, finding, remedy)
  return false
}

type Failure = Extract<Step, { ok: false }>
interface Said {
  readonly finding: string
  readonly remedy: string
}

function nameFault({ code, words }: Failure, { host }: Reach, { address, nameRemedy }: PeerWords): Said {
  const elsewhere = nameRemedy ?? `correct the name in ${address}, or add it to /etc/hosts: <address> ${host}`
  if (code === 'ENOTFOUND') return { finding: `the name ${host} can not be resolved: no such host`, remedy: elsewhere }
  const finding = `the name ${host} can not be resolved: ${code === 'EAI_AGAIN' || code === 'ETIMEDOUT' ? 'the name server does not answer' : words}`
  // A box without any network says the same of every name.
  return { finding, remedy: `see whether this box has a network and a name server (\`resolvectl status\`); else ${elsewhere}` }
}

function portFault({ code, words, ms }: Failure, { host, port }: Reach, address: string): Said {
  const place = `${host}:${port}`
  switch (code) {
    case 'ECONNREFUSED':
      return {
        finding: `${place} refuses the connection: nothing listens on that port`,
        remedy: `start the service there, or correct the port in ${address}`,
      }
    case 'ETIMEDOUT':
      return {
        finding: `${place} does not answer (waited ${Math.round(ms / 100) / 10} s): a firewall drops the packets, or the host is off`,
        remedy: `ask whoever runs the network to open TCP port ${port} from this box to ${host}`,
      }
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
      return { finding: `there is no way to ${host} from this box (${code})`, remedy: 'look at cable, modem and routes: `ip route`' }
    default:
      return { finding: `no connection to ${place}: ${words}`, remedy: `look at ${address} and at the network between` }
  }
}

function judgeTls(outcome: Step<TlsFound>, { host, port }: Reach, words: PeerWords, nowMs: number, findings: Findings): boolean {
  const { name, tls } = words
  if (!outcome.ok) {
    findings.fail(
      name,
      `no TLS with ${host}:${port}: ${handshakeWords(outcome)}`,
      `see whether TLS is spoken on that port (${words.address}), and look at ${tls}`,
    )
    return false
  }
  const { fault, validToMs, protocol } = outcome
  if (fault !== undefined) {
    const { finding, remedy } = certificateFault(fault, outcome, host, words, nowMs)
    findings.fail(name, finding, remedy)
    return false
  }
  const left = validToMs - nowMs
  const until = `${protocol}, certificate valid until ${dayOf(validToMs)} (${duration(left)})`
  if (left < EXPIRES_SOON_MS)
    findings.warn(name, `${until}: it expires soon`, `let whoever runs ${host} renew it before ${dayOf(validToMs)}`)
  else findings.ok(name, until)
  return true
}

function handshakeWords({ code, words }: Failure): string {
  if (code === 'ENOENT' || code === 'EACCES') return words
  if (/WRONG_VERSION|PACKET_LENGTH|EPROTO/.test(code)) return 'what answers there does not speak TLS'
  if (/ALERT/.test(code)) return 'it refuses our certificate, or wants one'
  return code.startsWith('ERR_SSL') ? code.replace('ERR_SSL_', '').toLowerCase().replaceAll('_', ' ') : words
}

function certificateFault(fault: string, found: TlsFound, host: string, { tls }: PeerWords, nowMs: number): Said {
  const { subject, issuer, names, validFromMs, validToMs } = found
  const now = new Date(nowMs).toISOString().slice(0, 16).replace('T', ' ')
  switch (fault) {
    case 'CERT_HAS_EXPIRED':
      return {
        finding: `the certificate of ${host} (${subject}) expired on ${dayOf(validToMs)}; this box says it is ${now} UTC`,
        remedy: `if that time is right, let whoever runs ${host} renew the certificate`,
      }
    case 'CERT_NOT_YET_VALID':
      return {
        finding: `the certificate of ${host} (${subject}) is valid only from ${dayOf(validFromMs)}; this box says it is ${now} UTC`,
        remedy: 'set the clock of this box: `timedatectl`',
      }
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return {
        finding: `the certificate is not for ${host}, but for ${names === '' ? subject : names}`,
        remedy: `use one of those names for it, or let its certificate be made for ${host} as well`,
      }
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
      return { finding: `the certificate of ${host} is signed by itself`, remedy: `if it is the right one, name its file as ${tls}.ca` }
    default:
      return {
        finding: `the certificate of ${host} comes from "${issuer}", which ${tls}.ca does not hold (${fault})`,
        remedy: `put the certificate of that authority into the file of ${tls}.ca`,
      }
  }
}

/** A certificate of our own: its file, its key, its time. */
export function judgeCertificate(found: CertificateFound, name: string, nowMs: number, findings: Findings): boolean {
  const { path, fault, keyMatches, validToMs = 0, validFromMs = 0 } = found
  const wrong =
    fault !== undefined
      ? fault === 'ENOENT' || fault === 'EACCES'
        ? `${path} ${fault === 'ENOENT' ? 'is missing' : "can't be read by this user"}`
        : `${path}: ${fault}`
      : keyMatches === false
        ? `the key does not belong to the certificate ${path}`
        : validToMs <= nowMs
          ? `${path} expired on ${dayOf(validToMs)}`
          : validFromMs > nowMs
            ? `${path} is valid only from ${dayOf(validFromMs)}`
            : undefined
  if (wrong !== undefined) {
    if (fault === 'EACCES') findings.skip(name, `${wrong}; run the doctor with sudo`)
    else
      findings.fail(
        name,
        wrong,
        keyMatches === false ? 'copy certificate and key anew, as a pair' : 'put a valid file there; it is taken up by itself',
      )
    return false
  }
  const left = validToMs - nowMs
  const until = `${path} is valid until ${dayOf(validToMs)} (${duration(left)})`
  if (left < EXPIRES_SOON_MS) findings.warn(name, `${until}: it expires soon`, 'put a new one in its place; it is taken up by itself')
  else findings.ok(name, until)
  return true
}

function dayOf(ms: number): string {
  return Number.isNaN(ms) ? 'an unknown day' : new Date(ms).toISOString().slice(0, 10)
}
