/**
 * FAILURES, log path 6 and 7: a row of a damaged file can hold anything, also what its table forbids. Whatever it is, the
 * row is left out and said, the others are kept, and the start goes on.
 */
import assert from 'node:assert/strict'
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import BetterSqlite from 'better-sqlite3'
import type { Database } from 'better-sqlite3'
import { PAGE_BYTES } from '../../store/database.ts'
import { salvage } from '../../store/salvage.ts'
import { imbalance, makeDirectory, StoreRig } from '../fakes/store-rig.ts'

interface Column {
  readonly name: string
  readonly type: string
  readonly pk: number
}

/** What a cell of this type never holds. */
const WRONG: Readonly<Record<string, readonly unknown[]>> = {
  INTEGER: [null, 'no number', -3, 2n ** 60n],
  TEXT: [null, Buffer.from([0xff, 0x00])],
  BLOB: [null, 'no bytes', Buffer.alloc(0)],
}
/** Tables with an integer key, whose rows are copied. */
const COPIED = ['epochs', 'lanes', 'outbox_urgent', 'outbox_normal', 'outbox_deferred', 'outbox_internal', 'dead_letters', 'message_ids']
const LEDGER = ['ledger_snapshot', 'ledger_log']

let directory: string
const path = (name = 'outbox.db'): string => join(directory, name)

after(() => rmSync(directory, { recursive: true }))

before(async () => {
  directory = makeDirectory()
  const rig = new StoreRig({ dedupe: { windowMs: 600_000, maxIds: 1_000 } }, directory)
  await rig.start()
  for (let life = 0; life < 6; life += 1) {
    for (const lane of ['urgent', 'normal', 'deferred'] as const)
      await rig.append(3, { lane, messageId: Buffer.alloc(16, life + 1) }, (index) => `${life} ${lane} ${index}`)
    rig.send('qos 2', { exchange: `client-${life}\0${life}` })
    rig.outbox.submitInternal({ destination: 'events', key: 'k', value: Buffer.from('v'), headers: [], receivedMs: 1 })
    await rig.commit()
    await rig.restart()
  }
  for (const row of (await rig.readAll('normal')).filter((_, index) => index % 4 === 1))
    await rig.outbox.advanceTo([], [{ lane: 'normal', epoch: row.epoch, position: row.position, reason: 'too large' }])
  await rig.outbox.stop(Infinity)
})

/** Opens the file without the rules of one table, changes rows of it, and puts the rules back. */
function damage(table: string, change: (db: Database) => void): string {
  const damaged = path('damaged.db')
  copyFileSync(path(), damaged)
  const schema = (from: (sql: string) => string): void => {
    const db = new BetterSqlite(damaged).unsafeMode()
    const sql = db.prepare('SELECT sql FROM sqlite_master WHERE name = ?').pluck().get(table) as string
    db.pragma('writable_schema = ON')
    db.prepare('UPDATE sqlite_master SET sql = ? WHERE name = ?').run(from(sql), table)
    db.close()
  }
  let rules = ''
  schema((sql) => {
    rules = sql
    return sql.replaceAll(' NOT NULL', '')
  })
  const db = new BetterSqlite(damaged)
  change(db)
  db.close()
  schema(() => rules)
  return damaged
}

function columnsOf(table: string): Column[] {
  const db = new BetterSqlite(path(), { readonly: true })
  try {
    return db.pragma(`table_info(${table})`) as Column[]
  } finally {
    db.close()
  }
}

function rowsOf(file: string, table: string): Record<string, unknown>[] {
  const db = new BetterSqlite(file, { readonly: true })
  try {
    return db.prepare(`SELECT * FROM ${table}`).all() as Record<string, unknown>[]
  } finally {
    db.close()
  }
}

interface Result {
  readonly texts: readonly string[]
  readonly lost: number
  readonly target: string
}

/** Salvages, and starts on what came of it. */
async function start(source: string): Promise<Result> {
  const target = path('salvaged.db')
  const order = { source, target, note: undefined, freshEpoch: (id: number) => String(id).padStart(16, '0'), wallMs: 1 }
  const { texts, lostMessages } = salvage(order)
  const opened = makeDirectory()
  try {
    copyFileSync(target, join(opened, 'outbox.db'))
    const rig = new StoreRig({ dedupe: { windowMs: 600_000, maxIds: 1_000 } }, opened)
    await rig.start()
    try {
      for (const lane of ['urgent', 'normal', 'deferred', 'internal'] as const) await rig.readAll(lane)
      assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
      await rig.append(3)
    } finally {
      await rig.close()
    }
  } finally {
    rmSync(opened, { recursive: true })
  }
  return { texts, lost: lostMessages, target }
}

describe('log path 6, 7: rows that their table forbids', () => {
  for (const table of COPIED) {
    test(`${table}: each column, NULL and what it never holds`, async () => {
      const columns = columnsOf(table)
      const key = columns.find(({ pk }) => pk === 1)?.name ?? ''
      for (const { name, type } of columns.filter(({ pk }) => pk === 0)) {
        const whole = rowsOf(path(), table)
        const keys = whole.map((row) => row[key])
        const wrong = (WRONG[type] ?? []).slice(0, keys.length - 1)
        assert.ok(wrong.length >= 2, `${table} has rows to damage`)
        const source = damage(table, (db) => {
          const update = db.prepare(`UPDATE ${table} SET ${name} = ? WHERE ${key} = ?`)
          for (const [index, value] of wrong.entries()) assert.equal(update.run(value, keys[index]).changes, 1)
        })
        const { texts, target } = await start(source)
        const left = new Map(rowsOf(target, table).map((row) => [row[key], row]))
        const kept = whole.slice(wrong.length)
        const what = `${table}.${name}`
        assert.deepEqual(
          kept.map((row) => left.get(row[key])),
          kept,
          `${what}: the other rows are there`,
        )
        const said = new RegExp(`${table.replace('outbox_', 'lane ')}: ${wrong.length} damaged rows were left out`)
        assert.match(texts.join('\n'), said, what)
        for (const [index, value] of wrong.entries())
          assert.notDeepEqual(
            left.get(keys[index])?.[name],
            typeof value === 'bigint' ? Number(value) : value,
            `${what} = ${String(value)}`,
          )
      }
    })
  }

  test('a damaged row of a lane and a damaged dead letter count as lost', async () => {
    const lane = await start(damage('outbox_urgent', (db) => db.exec('UPDATE outbox_urgent SET trusted = NULL WHERE first = 4')))
    assert.equal(lane.lost, 3)
    const letter = await start(damage('dead_letters', (db) => db.exec('UPDATE dead_letters SET bytes = bytes + 1 WHERE id = 2')))
    assert.equal(letter.lost, 1)
    assert.equal(rowsOf(letter.target, 'dead_letters').length, rowsOf(path(), 'dead_letters').length - 1)
  })

  test('a row that claims to be long hides none of the rows behind it', async () => {
    const { lost } = await start(damage('outbox_urgent', (db) => db.exec('UPDATE outbox_urgent SET count = 1000000 WHERE first = 4')))
    assert.equal(lost, 3)
  })

  for (const table of LEDGER) {
    test(`${table}: NULL and text instead of bytes`, async () => {
      const [key = '', column = ''] = columnsOf(table).map(({ name }) => name)
      for (const value of [null, 'no bytes', 5]) {
        const { lost } = await start(
          damage(table, (db) => {
            db.prepare(`INSERT OR REPLACE INTO ${table} (${key}, ${column}) VALUES (1, ?)`).run(value)
          }),
        )
        assert.equal(lost, 0)
      }
    })
  }

  test('holes and exchanges: other types, and NULL in the key', async () => {
    for (const { table, rows, cell } of [
      {
        table: 'holes',
        rows: [
          ['', 'MARKED'],
          [Buffer.from('x'), 7],
        ],
        cell: Buffer.from('\x03\x0d\x19MARKED'),
      },
      { table: 'exchanges', rows: [[''], [Buffer.from('x')]], cell: Buffer.from('\x02\x0d') },
    ]) {
      const whole = rowsOf(path(), table)
      const source = damage(table, (db) => {
        for (const row of rows) db.prepare(`INSERT INTO ${table} VALUES (${row.map(() => '?').join(', ')})`).run(...row)
      })
      nullify(source, table, cell)
      const { texts, target } = await start(source)
      assert.match(texts.join('\n'), new RegExp(`${table}: 2 damaged rows were left out`))
      assert.deepEqual(rowsOf(target, table), whole)
    }
  })

  for (const [table, column] of [
    ['epochs', 'epoch'],
    ['lanes', 'highest'],
    ['message_ids', 'ids'],
  ] as const) {
    test(`${table}: a start after a clean stop finds it`, async (t) => {
      const opened = makeDirectory()
      t.after(() => rmSync(opened, { recursive: true }))
      copyFileSync(path('state.db'), join(opened, 'state.db'))
      const source = damage(table, (db) => db.prepare(`UPDATE ${table} SET ${column} = ? WHERE rowid = 2`).run(Buffer.from('x')))
      copyFileSync(source, join(opened, 'outbox.db'))
      const rig = await new StoreRig({ dedupe: { windowMs: 600_000, maxIds: 1_000 } }, opened).start(t)
      const told = rig.outbox.state().notices.map((notice) => notice.text)
      assert.match(told.join('\n'), new RegExp(`outbox.db is damaged .*, 0 are lost .*${table}: 1 damaged row was left out`))
      assert.deepEqual(await imbalance(rig.outbox), { messages: 0, bytes: 0 })
    })
  }

  test('a schema that names other columns, or lacks a table, is rebuilt', async () => {
    for (const [from, to] of [
      ['boot_ms INTEGER', 'boXt_ms INTEGER'],
      ['TABLE message_ids', 'TABLE messageXids'],
    ] as const) {
      const source = damage('message_ids', () => undefined)
      const bytes = readFileSync(source)
      for (let at = bytes.indexOf(from); at >= 0; at = bytes.indexOf(from, at)) bytes.write(to, at)
      writeFileSync(source, bytes)
      const { texts, lost, target } = await start(source)
      assert.match(texts.join('\n'), /its first page was unreadable .* and was rebuilt/)
      assert.equal(lost, 0)
      assert.deepEqual(rowsOf(target, 'message_ids'), rowsOf(path(), 'message_ids'))
    }
  })
})

/** Makes the first column of the row with these bytes NULL: the type of an empty text (13) in its header (SQLite file format, 2.1). */
function nullify(file: string, table: string, cell: Buffer): void {
  const db = new BetterSqlite(file, { readonly: true })
  const root = db.prepare('SELECT rootpage FROM sqlite_master WHERE name = ?').pluck().get(table) as number
  db.close()
  const bytes = readFileSync(file)
  const page = bytes.subarray((root - 1) * PAGE_BYTES, root * PAGE_BYTES)
  const at = page.indexOf(cell)
  assert.ok(at > 0)
  assert.equal(page.indexOf(cell, at + 1), -1, 'the bytes are found once')
  page[at + 1] = 0
  writeFileSync(file, bytes)
}
