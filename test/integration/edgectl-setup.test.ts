/** `edgectl setup`, asked by a person on a terminal and by a file of answers. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { launchEdgectl } from '../fleet/operator.ts'
import { EDGECTL } from '../fleet/setup.ts'
import { freePort, serviceScope } from '../services/index.ts'

describe('edgectl setup', () => {
  const scope = serviceScope()
  const dir = scope.folder()
  const file = join(dir, 'config.yaml')
  const setup = (...words: string[]) => launchEdgectl(['--config', file, 'setup', ...words]).ended
  const head = `gateway: { id: gw-1, dataDir: ${join(dir, 'state')} }\n`
  const before = `${head}# limits agreed with the plant\nlimits: { perDevice: { messagesPerSecond: 7 } } # not more\n`

  it('without a terminal and without answers says so, and writes nothing without --yes', async () => {
    const { code, err } = await setup()
    assert.equal(code, 1)
    assert.match(err, /this is no terminal, and there are no answers\n {2}try: edgectl setup --answers/)
    const dry = await setup('--page', 'local')
    assert.equal(dry.code, 1)
    assert.match(dry.out, /nothing was written; this would be[^]*127\.0\.0\.1:9480[^]*add --yes/)
    assert.deepEqual(readdirSync(dir), [])
  })

  it('names the program that has the port, and the way out; keeps comments, other keys and the file of before', async () => {
    writeFileSync(file, before)
    const mosquitto = await scope.mosquitto()
    const { code, out } = await setup('--listen', `mqtt://127.0.0.1:${mosquitto.port}`, '--yes')
    assert.equal(code, 1)
    assert.match(
      out,
      new RegExp(`fail +mqtt\\.listen\\.lan: mosquitto \\(pid \\d+\\) listens on ${mosquitto.port}\\n +try: .*mqtt\\.connect`),
    )
    const text = readFileSync(file, 'utf8')
    assert.match(text, /# limits agreed with the plant\nlimits: \{ perDevice: \{ messagesPerSecond: 7 \} \} # not more\n/)
    assert.equal(statSync(join(dir, 'devices.passwd')).mode & 0o777, 0o640)
    const backup = readdirSync(dir).find((name) => name.endsWith('.bak'))
    assert.equal(readFileSync(join(dir, backup ?? ''), 'utf8'), before)
    const client = await setup('--connect', mosquitto.endpoint, '--yes')
    assert.equal(client.code, 0, client.out + client.err)
    assert.match(client.out, /login: let in/)
    assert.ok(!readFileSync(file, 'utf8').includes('listen:'))
  })

  it('refuses answers that make no valid configuration, or that it does not know, and leaves the file', async () => {
    const text = readFileSync(file, 'utf8')
    const answers = join(dir, 'answers.yaml')
    const cases: [string, RegExp, number][] = [
      ['id: "a.b"\n', /gateway\.id: .*is not allowed here/, 78],
      ['kafca: none\n', /kafca: there is no such question/, 1],
      ['kafka: { brokers: ["k:9092"], pasword: x }\n', /kafka\.pasword: there is no such key/, 1],
    ]
    for (const [content, message, exit] of cases) {
      writeFileSync(answers, content)
      const { code, err } = await setup('--answers', answers, '--yes')
      assert.deepEqual([code, readFileSync(file, 'utf8')], [exit, text])
      assert.match(err, message)
    }
  })

  /** On a pseudo terminal; types each line when its question is there. */
  function onTerminal(answers: readonly (readonly [string, string])[]): Promise<{ code: number | null; seen: string }> {
    const child = spawn('script', ['-qefc', `${process.execPath} ${EDGECTL} --config ${file} setup`, '/dev/null'], {
      env: { ...process.env, TERM: 'dumb' },
    })
    const waiting = [...answers]
    let [seen, looked] = ['', 0]
    child.stdout.setEncoding('utf8').on('data', (piece: string) => {
      seen += piece
      const [next] = waiting
      const at = next === undefined ? -1 : seen.indexOf(next[0], looked)
      if (next === undefined || at < 0) return
      looked = at + next[0].length
      waiting.shift()
      child.stdin.write(next[1])
    })
    return new Promise((resolve) => child.once('close', (code) => resolve({ code, seen })))
  }

  it('asks five questions, never shows a password, and writes it to a file of its own', async () => {
    writeFileSync(file, head)
    const port = await freePort()
    const { code, seen } = await onTerminal([
      ['Name [', '\r'],
      ['Number [1]', '\r'],
      ['Listen on', `mqtt://127.0.0.1:${port}\r`],
      ['have a password?', 'y\r'],
      ['Brokers as', '127.0.0.1:1\r'],
      ['spoken to with TLS?', 'n\r'],
      ['User name at Kafka', 'gw\r'],
      ['(not shown)', 'top-secret\r'],
      ['Mechanism', '\r'],
      ['Keep this answer', 'y\r'],
      ['Endpoints as', '\r'],
      ['Number [1]', '1\r'],
      ['Write it?', 'y\r'],
    ])
    assert.equal(code, 1, seen)
    assert.ok(!seen.includes('top-secret'))
    assert.match(seen, /nothing listens on that port/)
    assert.equal(readFileSync(join(dir, 'kafka.passwd'), 'utf8'), 'top-secret\n')
    assert.match(readFileSync(file, 'utf8'), /username: gw\n {4}passwordFile: .*kafka\.passwd/)
    assert.match(seen, /next:\s+sudo edgectl kafka setup\s+sudo systemctl enable --now edge-gateway\s+sudo edgectl device add NAME/)
  })

  it('leaves all as it was at Ctrl-C', async () => {
    const text = readFileSync(file, 'utf8')
    const { code, seen } = await onTerminal([
      ['Name [', 'other\r'],
      ['Number [1]', '\u0003'],
    ])
    assert.equal(code, 130)
    assert.match(seen, /nothing was changed/)
    assert.deepEqual([readFileSync(file, 'utf8'), existsSync(join(dir, 'page.passwd'))], [text, false])
  })
})
