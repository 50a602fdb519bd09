/** What an open page shows while the daemon hangs, restarts, or turns it away, and while clocks jump. */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Browser, Page } from 'playwright-core'
import { setUpBox, until, type Box, type BoxOptions } from '../fleet/box.ts'
import { falseClock } from '../fleet/false-clock.ts'
import { freePort, serviceScope } from '../services/index.ts'
import { assertQuiet, logIn, openBrowser, openTab, passwordLine } from './page-kit.ts'

const limit = { timeout: 90_000 }
const TABS = 8
const HOUR_MS = 3_600_000
const scope = serviceScope()
let browser: Browser

before(async () => {
  browser = await openBrowser()
})
after(() => browser.close())

async function boxWithPage(options: BoxOptions = {}, page: object = {}): Promise<{ box: Box; port: number; url: string }> {
  const port = await freePort()
  const box = await setUpBox(scope, options)
  await box.configure({ page: { listen: `127.0.0.1:${port}`, ...page } })
  await box.gateway.start()
  return { box, port, url: `http://127.0.0.1:${port}/` }
}

async function isLive(page: Page): Promise<void> {
  await page.getByText('live', { exact: true }).waitFor()
}

async function isLost(page: Page): Promise<void> {
  await page.getByRole('heading', { level: 1, name: 'not connected' }).waitFor()
}

/** A browser without a screen shows every tab; this says what one with a screen would say of a tab that is in front or is not. */
async function bring(page: Page, toFront: boolean): Promise<void> {
  await page.evaluate(`(() => {
    Object.defineProperty(document, 'hidden', { value: ${!toFront}, configurable: true })
    document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))
  })()`)
}

/** Keeps every word that the page says of its link, and lets the visitor's clock jump. */
async function record(page: Page): Promise<void> {
  await page.evaluate(`(() => {
    const [place, now] = [document.getElementById('link-words'), Date.now]
    window.said = []
    window.jumpMs = 0
    Date.now = () => now() + window.jumpMs
    new MutationObserver(() => window.said.push(place.textContent)).observe(place, { childList: true, characterData: true, subtree: true })
  })()`)
}

async function hearsTwice(page: Page): Promise<void> {
  for (let heard = 0; heard < 2; heard += 1) {
    const before = await page.locator('#foot').textContent()
    await until('another word', async () => (await page.locator('#foot').textContent()) !== before)
  }
}

describe('an open page', { concurrency: true }, () => {
  test('eight tabs: those that nobody sees leave the connections to the one in front; one too many says so', limit, async () => {
    const { port, url } = await boxWithPage()
    const tab = await openTab(browser, url)
    const pages = [tab.page]
    await isLive(tab.page)
    while (pages.length < TABS) {
      await bring(pages.at(-1) as Page, false)
      const page = await tab.page.context().newPage()
      await page.goto(url)
      await isLive(page)
      pages.push(page)
    }
    assert.doesNotMatch(await tab.page.title(), /ok|buffering/)
    await bring(pages.at(-1) as Page, false)
    await bring(tab.page, true)
    await isLive(tab.page)
    await until('its title', async () => /^buffering/.test(await tab.page.title()))
    await bring(tab.page, false)
    assertQuiet(tab)

    const sockets = Array.from({ length: 20 }, () => connect(port, '127.0.0.1'))
    scope.atEnd(() => sockets.forEach((socket) => socket.destroy()))
    await Promise.all(
      sockets.map(async (socket) => {
        socket.write('GET /api/events HTTP/1.1\r\nhost: localhost\r\n\r\n')
        await new Promise((resolve) => socket.once('data', resolve))
      }),
    )
    const { page } = await openTab(browser, url)
    await isLost(page)
    await page.getByText(/^Too many watch this page already.*Last known: buffering/).waitFor()
    sockets.forEach((socket) => socket.destroy())
    await isLive(page)
  })

  test('a jump of the visitor’s clock neither hides a daemon that hangs nor makes one up', limit, async () => {
    const { box, url } = await boxWithPage()
    const { page } = await openTab(browser, `${url}#devices`)
    await isLive(page)
    await record(page)
    for (const jumpMs of [HOUR_MS, -HOUR_MS]) {
      await page.evaluate(`window.jumpMs = ${jumpMs}`)
      await hearsTwice(page)
    }
    assert.deepEqual(await page.evaluate('window.said'), [])
    box.gateway.signal('SIGSTOP')
    await isLost(page)
    await sleep(20_000)
    assert.match((await page.locator('#verdict-line').textContent()) ?? '', /^Not connected since .*What stands below is old/)
    assert.equal(await page.evaluate('document.body.className'), 'old')
    box.gateway.signal('SIGCONT')
    await isLive(page)
    await page.getByLabel('Search').fill('nobody')
    await page.getByText(/^None of 0 found/).waitFor()
    await page.getByRole('status').getByText('0 devices found').waitFor({ state: 'attached' })
  })

  test('a jump of the box’s clock tears no line of a chart', limit, async () => {
    const clock = falseClock(scope.folder())
    clock.setRight()
    const { box, url } = await boxWithPage({ launch: { env: clock.env } })
    const { page } = await openTab(browser, url)
    const placesOf = async (): Promise<number[]> => {
      const path = (await page.locator('.chart .curve.s-in[d]').first().getAttribute('d')) ?? ''
      return [...path.matchAll(/[ML]([\d.-]+)/g)].map(([, x]) => Number(x))
    }
    await until('two points', async () => (await placesOf()).length > 1)
    const before = (await placesOf()).length
    clock.show(Date.now() - HOUR_MS)
    await until('the box believes it', async () => Date.parse((await box.status()).at) < Date.now() - HOUR_MS / 2)
    const places = await until('two more', async () => {
      const now = await placesOf()
      return now.length > before + 1 && now
    })
    const width = Number((await page.locator('.chart').first().getAttribute('viewBox'))?.split(' ')[2])
    assert.deepEqual(
      places,
      [...places].sort((left, right) => left - right),
    )
    assert.ok(
      places.every((x) => x > 0 && x <= width),
      `${places.join()} of ${width}`,
    )
    await isLive(page)
  })

  test('a new password, and a restart, lead to the login and back', limit, async () => {
    const passwordFile = join(scope.folder(), 'passwd')
    await writeFile(passwordFile, passwordLine('tech', 'valve-7'))
    const { box, url } = await boxWithPage({}, { passwordFile })
    const { page } = await openTab(browser, url)
    await logIn(page, 'tech', 'valve-7')
    await isLive(page)
    await writeFile(passwordFile, passwordLine('tech', 'valve-8'))
    box.gateway.signal('SIGHUP')
    await page.waitForURL(/\/login$/)
    await logIn(page, 'tech', 'valve-8')
    await isLive(page)
    await box.gateway.end('SIGKILL')
    await isLost(page)
    await box.gateway.start()
    await page.waitForURL(/\/login$/)
    await logIn(page, 'tech', 'valve-8')
    await isLive(page)
  })
})
