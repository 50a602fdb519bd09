/** A real browser on the page of a real box. */
import assert from 'node:assert/strict'
import { pbkdf2Sync, randomBytes } from 'node:crypto'
import { request, type RequestOptions } from 'node:http'
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core'

const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

export function openBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: '/usr/bin/chromium', args: ARGS })
}

/** What the browser complained about, and where else the page asked. */
export interface Watched {
  readonly page: Page
  readonly complaints: string[]
  readonly elsewhere: string[]
}

/** A tab whose complaints are kept. A violation of the content security policy is one of them. */
export async function openTab(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Watched> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options })
  const page = await context.newPage()
  page.setDefaultTimeout(15_000)
  const complaints: string[] = []
  const elsewhere: string[] = []
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text())
  })
  page.on('pageerror', (error) => complaints.push(error.message))
  page.on('request', (request) => {
    if (!request.url().startsWith(url)) elsewhere.push(request.url())
  })
  await page.goto(url)
  return { page, complaints, elsewhere }
}

export async function logIn(page: Page, user: string, password: string): Promise<void> {
  await page.getByLabel('User name').fill(user)
  await page.getByLabel('Password').fill(password)
  await page.getByRole('button', { name: 'Log in' }).click()
}

export function assertQuiet({ complaints, elsewhere }: Watched): void {
  assert.deepEqual({ complaints, elsewhere }, { complaints: [], elsewhere: [] })
}

/** A line of a password file, as mosquitto_passwd writes it. */
export function passwordLine(user: string, password: string): string {
  const salt = randomBytes(12)
  const hash = pbkdf2Sync(password, salt, 1_000, 64, 'sha512')
  return `${user}:$7$1000$${salt.toString('base64')}$${hash.toString('base64')}\n`
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly text: string
}

/** A request as no browser would make it. */
export function ask(port: number, path: string, options: RequestOptions = {}, body = ''): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: '127.0.0.1', port, path, agent: false, ...options }, (incoming) => {
      const pieces: Buffer[] = []
      incoming.on('data', (piece: Buffer) => pieces.push(piece))
      incoming.on('end', () => {
        const headers = Object.fromEntries(Object.entries(incoming.headers).map(([name, value]) => [name, String(value)]))
        resolve({ status: incoming.statusCode ?? 0, headers, text: Buffer.concat(pieces).toString() })
      })
    })
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}
