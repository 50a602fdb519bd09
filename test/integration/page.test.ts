/** The page of a real box in a real browser, with real traffic. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { Browser, Page } from 'playwright-core'
import kafkajs from '../../adapters/kafka/kafkajs.ts'
import { Device } from '../fleet/device.ts'
import { openBox, setUpBox, until, type Box } from '../fleet/box.ts'
import type { Fleet } from '../fleet/fleet.ts'
import { readBack } from '../fleet/read-back.ts'
import { freePort, serviceScope, type KafkaService } from '../services/index.ts'
import { assertQuiet, logIn, openBrowser, openTab, passwordLine } from './page-kit.ts'

const HOSTILE = '<img src=x onerror=alert(1)>'
const MARKUP = '<script>alert(document.cookie)</script>'
const VIEWS = ['overview', 'devices', 'patches', 'letters', 'ledger', 'doctor', 'log']
const limit = { timeout: 120_000 }
const scope = serviceScope()
let kafka: KafkaService
let browser: Browser
let box: Box
let fleet: Fleet
let url: string

/** Kafka takes no message above 2000 bytes from now on, so that a larger one becomes a dead letter. */
async function refuseLarge(topic: string, bytes: number): Promise<void> {
  const admin = new kafkajs.Kafka({ brokers: [kafka.internalEndpoint], logLevel: kafkajs.logLevel.NOTHING }).admin()
  await admin.connect()
  const configEntries = [{ name: 'max.message.bytes', value: String(bytes) }]
  await admin.alterConfigs({ validateOnly: false, resources: [{ type: 2, name: topic, configEntries }] })
  await admin.disconnect()
}

before(async () => {
  kafka = await scope.kafka()
  const port = await freePort()
  url = `http://127.0.0.1:${port}/`
  box = await setUpBox(scope, { kafka: kafka.endpoint, config: { log: { level: 'debug' } } })
  const passwordFile = join(box.dir, 'page.passwd')
  await writeFile(passwordFile, passwordLine('tech', 'valve-7'))
  await box.configure({ page: { listen: `127.0.0.1:${port}`, passwordFile } })
  await refuseLarge(box.topic, 3_000)
  await box.gateway.start()
  fleet = box.fleet({ devices: 8 })
  fleet.start()
  const device = new Device({ clientId: HOSTILE, host: '127.0.0.1', port: box.port })
  device.open()
  scope.atEnd(() => device.close())
  device.publish({ topic: `devices/${HOSTILE}/logs/app/h-1`, payload: Buffer.from('small') })
  device.publish({
    topic: `devices/${HOSTILE}/logs/app/h-2`,
    payload: Buffer.from(`${MARKUP}\u202e${randomBytes(6_000).toString('base64')}`),
  })
  device.publish({ topic: `elsewhere/${HOSTILE}`, payload: Buffer.from('x') })
  browser = await openBrowser()
  await until('a dead letter', async () => (await box.status()).buffer.deadLetters === 1)
})
after(() => browser.close())

async function open(view: string, options = {}): Promise<Awaited<ReturnType<typeof openTab>>> {
  const tab = await openTab(browser, url, options)
  await logIn(tab.page, 'tech', 'valve-7')
  await tab.page.getByText('live', { exact: true }).waitFor()
  await tab.page.goto(`${url}#${view}`)
  return tab
}

/** Text whose contrast with what is behind it is below WCAG's AA, and fields without a name. */
function faultsOf(page: Page): Promise<string[]> {
  return page.evaluate(`(() => {
    const parse = (c) => (c.match(/[\\d.]+/g) ?? []).map(Number)
    const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0)
    const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0) return c } return [255, 255, 255] }
    const faults = []
    for (const e of document.querySelectorAll('body *')) {
      if (!e.checkVisibility() || e.closest('svg')) continue
      const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim() !== '')
      const style = getComputedStyle(e)
      const [a, b] = [light(parse(style.color)), light(behind(e))].sort((x, y) => y - x)
      const large = parseFloat(style.fontSize) >= 24
      if (own && (a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) faults.push('contrast ' + ((a + 0.05) / (b + 0.05)).toFixed(2) + ' ' + e.className + ' ' + e.textContent.slice(0, 40))
      if (e.matches('input:not([type=hidden]), select, textarea') && e.labels.length === 0) faults.push('no label ' + e.outerHTML)
      if (e.matches('button, a') && e.textContent.trim() === '') faults.push('no name ' + e.outerHTML)
    }
    for (const id of document.querySelectorAll('[id]')) if (document.querySelectorAll('#' + id.id).length > 1) faults.push('twice ' + id.id)
    return faults
  })()`)
}

describe('the page', () => {
  test('a wrong password is refused in words, the right one shows the box live', limit, async () => {
    const tab = await openTab(browser, url)
    const { page } = tab
    await logIn(page, 'tech', 'wrong')
    await page.getByRole('alert').getByText('Wrong user name or password.').waitFor()
    tab.complaints.length = 0
    await logIn(page, 'tech', 'valve-7')
    await page.getByRole('heading', { level: 1, name: 'ok' }).waitFor()
    const received = async (): Promise<string> => (await page.locator('#foot').textContent()) ?? ''
    await page.locator('#foot').getByText('messages received').waitFor()
    const before = await received()
    await until('newer figures', async () => (await received()) !== before)
    await page.getByText(/^out/).first().waitFor()
    const [cookie] = await page.context().cookies()
    assert.deepEqual([cookie?.httpOnly, cookie?.sameSite], [true, 'Strict'])
    const assets = `performance.getEntriesByType('resource').filter(({ name }) => name.includes('/assets/'))`
    const bytes = await page.evaluate<number>(`${assets}.reduce((all, { encodedBodySize }) => all + encodedBodySize, 0)`)
    assert.ok(bytes > 10_000 && bytes < 32_000, `${bytes} bytes for a browser that has nothing of the page yet`)
    const isDrawn = async (): Promise<boolean> => ((await page.locator('.chart path').first().getAttribute('d')) ?? '').includes('L')
    await until('the chart has a line', isDrawn)
    await page.reload()
    await until('a reload shows what was before it', isDrawn)
    await page.getByRole('button', { name: 'Log out' }).click()
    await page.getByRole('heading', { name: 'Log in' }).waitFor()
    await page.goto(url)
    assert.match(page.url(), /\/login$/)
    assertQuiet(tab)
  })

  test('a name, a payload and a log line that are markup show as text, and a payload only when asked for', limit, async () => {
    const tab = await open('devices', { viewport: { width: 360, height: 740 } })
    const { page } = tab
    await page.getByLabel('Search').fill('<IMG')
    await page.getByRole('cell', { name: HOSTILE }).waitFor()
    await page.goto(`${url}#letters`)
    await page.getByText(HOSTILE).first().waitFor()
    assert.equal(await page.getByText('alert(document.cookie)').count(), 0)
    await page.getByRole('button', { name: 'Show the message' }).click()
    await page.getByText(`${MARKUP}\\u202e`).waitFor()
    assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 360)
    assert.deepEqual(await faultsOf(page), [])
    await page.goto(`${url}#log`)
    await page.getByText(`elsewhere/${HOSTILE}`).first().waitFor()
    assert.equal(await page.locator('#view img, #view script').count(), 0)
    assertQuiet(tab)
  })

  test('a retry and a hold ask first, are done in the visitor’s name, and are written down', limit, async () => {
    const tab = await open('letters')
    const { page } = tab
    await page.getByRole('button', { name: 'Try again…' }).click()
    await page.getByRole('button', { name: 'Cancel' }).click()
    assert.equal((await box.status()).buffer.deadLetters, 1)
    await refuseLarge(box.topic, 1_000_000)
    await page.getByRole('button', { name: 'Try again…' }).click()
    await page.getByRole('button', { name: 'Try again', exact: true }).click()
    await page.getByText('No dead letters').waitFor()
    assert.match(await box.log(), /page: tech retried dead letter 1/)
    await page.goto(`${url}#patches`)
    await page.getByRole('button', { name: 'Hold patches…' }).click()
    await page.getByLabel('Why').fill('pump works')
    await page.getByRole('button', { name: 'Hold', exact: true }).click()
    await page.getByText('Held by tech (page): pump works').waitFor()
    await page.getByRole('button', { name: 'End the hold…' }).click()
    await page.getByRole('button', { name: 'End the hold', exact: true }).click()
    await page.getByText('Patches may start here.').waitFor()
    const events = await until('the records', async () => {
      const said = (await readBack(kafka.endpoint, 'edge-1.events'))
        .map(({ payload }) => payload.toString())
        .filter((text) => text.includes('page-act'))
      return said.length === 3 ? said : undefined
    })
    assert.match(events.join(), /"by":"tech".*retried dead letter 1.*held patches for 30m: pump works.*ended the hold/)
    assertQuiet(tab)
  })

  test('on a phone and a desk, dark and light: nothing is wider than the screen, all can be read and named', limit, async () => {
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const viewport of [
        { width: 360, height: 740 },
        { width: 1280, height: 900 },
      ]) {
        const tab = await open('overview', { colorScheme, viewport })
        for (const view of VIEWS) {
          await tab.page.goto(`${url}#${view}`)
          await tab.page.locator(`nav a[href="#${view}"][aria-current]`).waitFor()
          const width = await tab.page.evaluate('document.documentElement.scrollWidth')
          assert.equal(width, viewport.width, `${view} ${colorScheme}`)
          assert.deepEqual(await faultsOf(tab.page), [], `${view} ${colorScheme} ${viewport.width}`)
        }
        for (const role of ['banner', 'main', 'navigation', 'contentinfo'] as const)
          assert.equal(await tab.page.getByRole(role).count(), 1, role)
        assertQuiet(tab)
        await tab.page.context().close()
      }
    }
  })

  test('the keyboard alone is enough', limit, async () => {
    const { page } = await openTab(browser, url)
    // The browser gives it the focus once the page is drawn.
    await page.locator('input:focus').waitFor()
    await page.keyboard.type('tech')
    await page.keyboard.press('Tab')
    await page.keyboard.type('valve-7')
    await page.keyboard.press('Enter')
    await page.getByText('live', { exact: true }).waitFor()
    const focused = (): Promise<string> => page.evaluate('document.activeElement.textContent')
    for (let step = 0; step < 20 && !(await focused()).startsWith('Patches'); step += 1) await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    await page.getByRole('button', { name: 'Hold patches…' }).waitFor()
    for (let step = 0; step < 10 && (await focused()) !== 'Hold patches…'; step += 1) await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    await page.getByRole('dialog').waitFor()
    // It looks again every 5 s: what has the focus must stay.
    await page.waitForRequest(/\/hold$/)
    await page.waitForRequest(/\/hold$/)
    await page.keyboard.press('Escape')
    await until('the focus is back', async () => (await focused()) === 'Hold patches…')
  })

  test('the doctor walks on order and says what to do first', limit, async () => {
    const { page } = await open('doctor')
    await page.getByRole('button', { name: 'Examine the box' }).click()
    await page.getByText(/All well|deserve a look|Fix first/).waitFor({ timeout: 50_000 })
    assert.ok((await page.locator('.check').count()) > 10)
  })

  test('a daemon that hangs or has gone is not shown as live, and the page finds back to it', limit, async () => {
    const port = await freePort()
    const other = await openBox(scope, { config: { page: { listen: `127.0.0.1:${port}` } } })
    const { page } = await openTab(browser, `http://127.0.0.1:${port}/`)
    await page.getByText('live', { exact: true }).waitFor()
    other.gateway.signal('SIGSTOP')
    await page.getByRole('heading', { level: 1, name: 'not connected' }).waitFor()
    await page.getByText(/Not connected since \d\d:\d\d:\d\d/).waitFor()
    other.gateway.signal('SIGCONT')
    await page.getByRole('heading', { level: 1, name: 'buffering' }).waitFor()
    await other.gateway.end('SIGKILL')
    await page.getByRole('heading', { level: 1, name: 'not connected' }).waitFor()
    await other.gateway.start()
    await page.getByRole('heading', { level: 1, name: 'buffering' }).waitFor()
    await page.goto(`http://127.0.0.1:${port}/#patches`)
    await page.getByRole('button', { name: 'Hold patches…' }).click()
    await page.getByLabel('Why').fill('after a restart')
    await page.getByRole('button', { name: 'Hold', exact: true }).click()
    await page.getByText('Held by someone on the box (page)').waitFor()
  })

  test('without JavaScript the verdict is there', limit, async () => {
    const tab = await openTab(browser, url, { javaScriptEnabled: false })
    await logIn(tab.page, 'tech', 'valve-7')
    await tab.page.getByRole('heading', { level: 1, name: 'ok' }).waitFor()
    // The browser that is told not to run scripts still hides what is for those without.
    assert.match(await tab.page.content(), /Without JavaScript the page shows no more/)
  })
})
