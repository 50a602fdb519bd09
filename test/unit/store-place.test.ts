import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { autoDelayMs, diskKind } from '../../store/disk.ts'
import { mountType, prepareDirectory } from '../../store/place.ts'

function directory(t: TestContext): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), 'store-place-')))
  t.after(() => rmSync(path, { recursive: true }))
  return path
}

test('the mount of a path is the longest that holds it, the last of equals', (t) => {
  const path = directory(t)
  mkdirSync(join(path, 'a b', 'c'), { recursive: true })
  const line = (point: string, type: string): string =>
    `36 35 98:0 / ${point.replaceAll(' ', '\\040')} rw,noatime master:1 - ${type} /dev/x rw`
  const info = [
    line('/', 'ext4'),
    line(path, 'xfs'),
    line(join(path, 'a b'), 'nfs4'),
    line(join(path, 'a b'), 'fuse.sshfs'),
    line(`${path}-other`, 'btrfs'),
    '',
  ].join('\n')
  assert.equal(mountType(path, info), 'xfs')
  assert.equal(mountType(join(path, 'a b', 'c'), info), 'fuse.sshfs')
  assert.equal(mountType(dirname(path), info), 'ext4')
})

test('a local directory is accepted and made if it is not there', (t) => {
  const path = join(directory(t), 'x', 'y')
  assert.equal(prepareDirectory(path), undefined)
  assert.equal(statSync(path).isDirectory(), true)
})

test('a path that can not be a directory is refused with what to do', (t) => {
  const file = join(directory(t), 'file')
  writeFileSync(file, '')
  assert.throws(() => prepareDirectory(join(file, 'x')), { kind: 'fatal', remedy: /Make it yourself/ })
})

test('the kind of disk is read from sysfs, through partitions', (t) => {
  const sysfs = directory(t)
  const own = statSync(sysfs).dev
  const number = `${Math.floor(own / 256) % 4096}:${(own % 256) + (Math.floor(own / 2 ** 20) % 4096) * 256}`
  const disk = (name: string, rotational: string | undefined, partition: boolean): void => {
    rmSync(join(sysfs, 'dev'), { recursive: true, force: true })
    rmSync(join(sysfs, 'devices'), { recursive: true, force: true })
    const device = join(sysfs, 'devices', name, ...(partition ? [`${name}1`] : []))
    mkdirSync(join(sysfs, 'devices', name, 'queue'), { recursive: true })
    mkdirSync(device, { recursive: true })
    if (rotational !== undefined) writeFileSync(join(sysfs, 'devices', name, 'queue', 'rotational'), `${rotational}\n`)
    if (partition) writeFileSync(join(device, 'partition'), '1\n')
    mkdirSync(join(sysfs, 'dev/block'), { recursive: true })
    symlinkSync(device, join(sysfs, 'dev/block', number))
  }
  assert.equal(diskKind(sysfs, sysfs), 'unknown')
  disk('nvme0n1', '0', true)
  assert.equal(diskKind(sysfs, sysfs), 'solid-state')
  disk('sda', '1', false)
  assert.equal(diskKind(sysfs, sysfs), 'rotating')
  disk('mmcblk0', '0', true)
  assert.equal(diskKind(sysfs, sysfs), 'flash-card')
  disk('loop0', undefined, false)
  assert.equal(diskKind(sysfs, sysfs), 'unknown')
  assert.deepEqual((['flash-card', 'rotating', 'unknown', 'solid-state'] as const).map(autoDelayMs), [100, 100, 100, 50])
})
