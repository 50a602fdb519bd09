/** The page of the box, as long as its settings stand. Loaded only where a page is wanted. */
import { hostname } from 'node:os'
import { pageFiles } from '../../adapters/control/page-files.ts'
import { HttpEndpoint } from '../../adapters/control/server.ts'
import { parsePasswordFile, PasswordVerifier, type PasswordFile } from '../../adapters/mqtt/passwords.ts'
import { WatchedFiles } from '../../adapters/mqtt/tls-files.ts'
import { tlsFiles, type TlsMaterial } from '../../adapters/mqtt/tls.ts'
import type { HostPort, PageSettings } from '../../config/settings.ts'
import { GatewayError, messageOf } from '../errors.ts'
import type { Check } from '../doctor/check.ts'
import { Feed } from '../page/feed.ts'
import { LogLines } from '../page/log-lines.ts'
import { isSame } from '../page/sessions.ts'
import type { Route } from '../ports.ts'
import type { PageSources } from './page.ts'
import { pageDoctor } from './page-doctor.ts'
import { PageGate, type Passwords } from './page-gate.ts'
import { pageRoutes } from './page-routes.ts'

const CONNECTIONS_MAX = 200
const CONNECTIONS_PER_ADDRESS = 60

/** Nothing from elsewhere, nothing inline, no frame around it, no markup made from text. */
const HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
    "frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  // With no-referrer a browser would hide from the login's form where it came from.
  'referrer-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=(), payment=(), usb=()',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
}

export class PageServer {
  readonly #settings: PageSettings & { readonly listen: HostPort }
  readonly #sources: PageSources
  readonly #verifier: PasswordVerifier
  readonly #lines = new LogLines()
  readonly #unlisten: () => void
  #feed: Feed | undefined
  #passwords: WatchedFiles<PasswordFile> | undefined
  #tls: WatchedFiles<TlsMaterial> | undefined
  #endpoint: HttpEndpoint | undefined

  constructor(settings: PageSettings & { readonly listen: HostPort }, sources: PageSources) {
    this.#settings = settings
    this.#sources = sources
    this.#verifier = new PasswordVerifier(() => sources.clock.monotonicMs())
    this.#unlisten = sources.log.onLine((line) => this.#lines.add(line))
  }

  async start(): Promise<void> {
    const { listen, passwordFile, tls } = this.#settings
    const { clock, log } = this.#sources
    if (passwordFile !== undefined) {
      const read = ([content = Buffer.alloc(0)]: readonly Buffer[]): PasswordFile => someone(parsePasswordFile(content))
      this.#passwords = new WatchedFiles({ what: 'the password file of the page', paths: [passwordFile], read, clock, log })
    }
    if (tls !== undefined) this.#tls = tlsFiles('the certificate of the page', { certFile: tls.cert, keyFile: tls.key }, clock, log)
    try {
      await Promise.all([this.#passwords?.load(), this.#tls?.load()])
      const endpoint = new HttpEndpoint('page', listen, await this.#routes(), log, {
        ...(this.#tls !== undefined && { tls: this.#tls }),
        connectionsMax: CONNECTIONS_MAX,
        connectionsPerAddress: CONNECTIONS_PER_ADDRESS,
        headers: HEADERS,
      })
      await endpoint.start()
      this.#endpoint = endpoint
    } catch (error) {
      await this.stop()
      throw error instanceof GatewayError ? error : new GatewayError('fatal', `no page: ${messageOf(error)}`, { cause: error })
    }
    this.#feed?.start()
  }

  async stop(): Promise<void> {
    this.#unlisten()
    this.#feed?.stop()
    this.#passwords?.close()
    this.#tls?.close()
    await this.#endpoint?.stop()
  }

  async #routes(): Promise<readonly Route[]> {
    const { clock, log, status, control, report, configFile, gateway } = this.#sources
    const { listen, tls, hosts } = this.#settings
    const host = hostname().toLowerCase()
    const gate = new PageGate({
      passwords: this.#passwords && this.#checking(this.#passwords),
      names: [host, `${host}.local`, gateway.toLowerCase(), ...hosts.map((name) => name.toLowerCase())],
      port: listen.port,
      isSecure: tls !== undefined,
      clock,
      log,
    })
    const feed = new Feed({ status, lines: this.#lines, clock })
    this.#feed = feed
    const doctor = pageDoctor(() => examined(configFile))
    return pageRoutes({
      gate,
      feed,
      files: await pageFiles(),
      status,
      control: control(),
      doctor,
      log,
      report,
      nowMs: () => clock.wallMs(),
    })
  }

  #checking(file: WatchedFiles<PasswordFile>): Passwords {
    return {
      verify: async (user, password) => (await this.#verifier.verify(file.value, user, Buffer.from(password)))?.text,
      isStill: (user, credential) => isSame(file.value.get(user)?.text ?? '', credential),
    }
  }
}

/** Loaded when it is asked for the first time. */
async function* examined(configFile: string): AsyncGenerator<Check, void, undefined> {
  const { examine } = await import('./doctor/examine.ts')
  yield* examine({ configFile })
}

/** A file in which nobody stands would lock everybody out without a word. */
function someone(file: PasswordFile): PasswordFile {
  if (file.size > 0) return file
  throw new GatewayError('fatal', 'the password file of the page names nobody', { remedy: 'mosquitto_passwd -c FILE USER' })
}
