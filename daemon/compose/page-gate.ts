/** Who may see the page and act on it. */
import type { Clock } from '../clock.ts'
import { Attempts } from '../page/attempts.ts'
import { isSame, newToken, Sessions } from '../page/sessions.ts'
import { cookieOf, hostOf, isOurs, isSameSite } from '../page/visitor.ts'
import type { Log, Reply, Route, RouteRequest } from '../ports.ts'

/** Who is known by a file of passwords. */
export interface Passwords {
  /** The credential that the password proved; undefined for a wrong one, or for nobody of that name. */
  verify(user: string, password: string): Promise<string | undefined>
  /** False when the file says something else by now. */
  isStill(user: string, credential: string): boolean
}

export interface GateParts {
  /** Undefined: whoever reaches the page may see it and act. Only on loopback. */
  readonly passwords: Passwords | undefined
  /** Names of this box, in lower case. */
  readonly names: readonly string[]
  readonly port: number
  readonly isSecure: boolean
  readonly clock: Clock
  readonly log: Log
}

export interface Visitor {
  readonly user: string
  readonly proof: string
  /** False: there is nothing to log out of. */
  readonly loggedIn: boolean
}

type Answer = (request: RouteRequest, visitor: Visitor) => Promise<Reply> | Reply

const FORM_BYTES_MAX = 4_096
const NOBODY = 'someone on the box'

export class PageGate {
  readonly #parts: GateParts
  readonly #sessions: Sessions
  readonly #attempts: Attempts
  readonly #cookie: string
  readonly #open: Visitor = { user: NOBODY, proof: newToken(), loggedIn: false }

  constructor(parts: GateParts) {
    const now = (): number => parts.clock.monotonicMs()
    this.#parts = parts
    this.#sessions = new Sessions(now)
    this.#attempts = new Attempts(now)
    // Cookies do not know ports: two pages on one machine must not log each other out.
    this.#cookie = `${parts.isSecure ? '__Host-' : ''}edge-page-${parts.port}`
  }

  visitor({ headers }: Pick<RouteRequest, 'headers'>): Visitor | undefined {
    const { passwords } = this.#parts
    if (passwords === undefined) return this.#open
    const session = this.#sessions.find(cookieOf(headers['cookie'], this.#cookie) ?? '')
    if (session === undefined || !passwords.isStill(session.user, session.credential)) return undefined
    return { user: session.user, proof: session.proof, loggedIn: true }
  }

  /** Under no name but the box's own. */
  known(route: Route): Route {
    return {
      ...route,
      run: (request) => {
        const host = hostOf(request.headers['host'])
        if (isOurs(host, this.#parts.names)) return route.run(request)
        const body = `This box is not known as ${host ?? 'that'}. Use its address, or add the name to page.hosts in its configuration.\n`
        return { status: 421, contentType: 'text/plain; charset=utf-8', body }
      },
    }
  }

  seen(route: Omit<Route, 'run'>, answer: Answer): Route {
    return this.known({
      ...route,
      run: (request) => {
        const visitor = this.visitor(request)
        return visitor === undefined ? { status: 401, body: { error: 'log in first' } } : answer(request, visitor)
      },
    })
  }

  /** What changes something. The proof stands in the page, where no other site can read it. */
  done(path: string, answer: Answer): Route {
    return this.seen({ method: 'POST', path }, (request, visitor) => {
      if (isSameSite(request.headers) && isSame(request.headers['x-edge-proof'] ?? '', visitor.proof)) return answer(request, visitor)
      return refused('the request did not come from this page; reload it')
    })
  }

  /** `page` shows the login again, with what was wrong. */
  login(page: (status: number, trouble: string) => Reply): Route {
    return this.known({
      method: 'POST',
      path: '/login',
      bodyBytesMax: FORM_BYTES_MAX,
      run: async ({ headers, address, body }) => {
        const { passwords, log } = this.#parts
        if (passwords === undefined) return toRoot()
        if (!isSameSite(headers)) return refused('the form did not come from this page')
        const waitMs = this.#attempts.take(address)
        if (waitMs > 0) return page(429, `Too many tries. Wait ${Math.ceil(waitMs / 1_000)} s, then try again.`)
        const form = new URLSearchParams(body)
        const user = form.get('user') ?? ''
        const credential = await passwords.verify(user, form.get('password') ?? '')
        if (credential === undefined) {
          log.warn({ address }, 'a login to the page failed')
          return page(401, 'Wrong user name or password.')
        }
        this.#attempts.succeeded(address)
        log.info({ user, address }, `${user} logged in to the page`)
        return toRoot(this.#cookieField(this.#sessions.open(user, credential)))
      },
    })
  }

  logout(): Route {
    return this.known({
      method: 'POST',
      path: '/logout',
      bodyBytesMax: FORM_BYTES_MAX,
      run: (request) => {
        const visitor = this.visitor(request)
        const proof = new URLSearchParams(request.body).get('proof') ?? ''
        if (visitor === undefined) return toRoot()
        if (!isSame(proof, visitor.proof)) return refused('the request did not come from this page; reload it')
        this.#sessions.end(cookieOf(request.headers['cookie'], this.#cookie) ?? '')
        return toRoot(`${this.#cookieField('')}; Max-Age=0`)
      },
    })
  }

  #cookieField(value: string): string {
    return `${this.#cookie}=${value}; Path=/; HttpOnly; SameSite=Strict${this.#parts.isSecure ? '; Secure' : ''}`
  }
}

function refused(error: string): Reply {
  return { status: 403, body: { error } }
}

function toRoot(cookie?: string): Reply {
  return { status: 303, headers: { location: '/', ...(cookie !== undefined && { 'set-cookie': cookie }) }, body: '' }
}
