import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { KnownDevices } from '../../adapters/host/known-devices.ts'
import { kindOf } from '../../daemon/errors.ts'
import { parseDeviceList } from '../../daemon/ingest/device-list.ts'
import { FakeClock } from '../fakes/clock.ts'

function set(t: TestContext): { path: string; clock: FakeClock; lines: string[]; devices: KnownDevices } {
  const dir = mkdtempSync(join(tmpdir(), 'edge-devices-'))
  t.after(() => rmSync(dir, { recursive: true, force: true }))
  const path = join(dir, 'devices.txt')
  const clock = new FakeClock()
  const lines: string[] = []
  const note = (_: object, message: string): void => void lines.push(message)
  const devices = new KnownDevices({ path, parse: parseDeviceList, clock, log: { debug: note, info: note, warn: note, error: note } })
  t.after(() => devices.stop())
  return { path, clock, lines, devices }
}

/** Looks at the file until `done`; the reads are real. */
async function looks(clock: FakeClock, done: () => boolean): Promise<void> {
  while (!done()) {
    clock.advance(1_000)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

test('the list: ids and globs a line, comments and empty lines left out', () => {
  const isKnown = parseDeviceList('\uFEFF# cameras\r\ncam-*\r\n\n  pump 7  \n#cam\nx?\n')
  assert.deepEqual(['cam-1', 'cam-', 'pump 7', 'x1'].map(isKnown), [true, true, true, true])
  assert.deepEqual(['Cam-1', 'pump', '#cam', 'x', '', '# cameras'].map(isKnown), Array(6).fill(false))
  assert.throws(() => parseDeviceList('# nobody\n\n'), /names no device; write .* \* for every device/)
})

test('a file that is missing or names nobody ends the start, in words that say what to do', async (t) => {
  const { path, devices } = set(t)
  const refused = (text: RegExp) => (error: unknown) =>
    kindOf(error) === 'fatal' && text.test(String(error)) && /remove limits\.knownDevices/.test((error as { remedy: string }).remedy)
  await assert.rejects(devices.start(), refused(/limits\.knownDevices\.file .*devices\.txt can't be used: ENOENT/))
  writeFileSync(path, '#\n')
  await assert.rejects(devices.start(), refused(/it names no device/))
})

test('a change is taken up; one that can not be used leaves the old list, with one line', async (t) => {
  const { path, clock, lines, devices } = set(t)
  writeFileSync(path, 'a\n')
  await devices.start()
  assert.deepEqual(
    ['a', 'bb'].map((device) => devices.isKnown(device)),
    [true, false],
  )
  writeFileSync(path, 'bb\n')
  await looks(clock, () => devices.isKnown('bb'))
  assert.equal(devices.isKnown('a'), false)
  rmSync(path)
  await looks(clock, () => lines.length > 1)
  for (let i = 0; i < 5; i++) await looks(clock, () => true)
  assert.deepEqual(lines, [
    'the list of known devices changed and was read again',
    "the list of known devices changed but can't be used; the old one stays in force",
  ])
  assert.ok(devices.isKnown('bb'))
  writeFileSync(path, 'ccc\n')
  await looks(clock, () => devices.isKnown('ccc'))
})
