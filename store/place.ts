/** Is the data directory on a file system that keeps its promises? */
import { mkdirSync, readFileSync, realpathSync, statfsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { GatewayError, messageOf } from '../daemon/errors.ts'
import { syncDirectory } from './database.ts'

/** `f_type` of statfs(2): locks and shared memory maps of these do not hold between machines. */
const NETWORK_MAGIC: Readonly<Record<number, string>> = {
  0x6969: 'NFS',
  0x517b: 'SMB',
  0xff53_4d42: 'CIFS',
  0xfe53_4d42: 'SMB2',
  0x0102_1997: '9p',
  0x564c: 'NCP',
  0x5346_414f: 'AFS',
  0x7375_7245: 'Coda',
  0x00c3_6400: 'Ceph',
  0x0bd0_0bd0: 'Lustre',
  0x0116_1970: 'GFS2',
  0x7461_636f: 'OCFS2',
  0x786f_4256: 'VirtualBox shared folder',
}
/** FUSE is one magic number for all; the mount's type tells the local ones (NTFS, test tools) from these. */
const NETWORK_FUSE = /^fuse\.(sshfs|s3fs|goofys|gcsfuse|rclone|glusterfs|ceph|davfs|curlftpfs|smbnetfs|mergerfs|vmhgfs-fuse|nfs)/
const TMPFS_MAGIC = 0x0102_1994

const REMEDY = 'Set gateway.dataDir to a directory on a local disk (ext4, xfs, btrfs, f2fs).'

/** Makes the directory and refuses it (`fatal`) if it is not local. Returns what the operator should know. */
export function prepareDirectory(path: string): string | undefined {
  try {
    const first = mkdirSync(path, { recursive: true, mode: 0o750 })
    if (first !== undefined) syncParents(resolve(first), resolve(path))
  } catch (error) {
    throw new GatewayError('fatal', `the data directory ${path} can't be made: ${messageOf(error)}`, {
      remedy: 'Make it yourself and give it to the user of the gateway.',
      cause: error,
    })
  }
  const { type } = statfsSync(path)
  const network = NETWORK_MAGIC[type] ?? networkFuse(mountType(path, readFileSync('/proc/self/mountinfo', 'utf8')))
  if (network !== undefined) {
    throw new GatewayError(
      'fatal',
      `the data directory ${path} is on a network file system (${network}), where SQLite's locks and fsync do not hold`,
      { remedy: REMEDY },
    )
  }
  if (type === TMPFS_MAGIC) return `the data directory ${path} is in memory (tmpfs): everything in it is lost at a power cut. ${REMEDY}`
  return undefined
}

/** Of the folders from `first` down to `last`: one whose own name is lost with the power takes all that is in it along. */
function syncParents(first: string, last: string): void {
  for (let folder = last; folder.length >= first.length; folder = dirname(folder)) syncDirectory(dirname(folder))
}

function networkFuse(type: string | undefined): string | undefined {
  return type !== undefined && NETWORK_FUSE.test(type) ? type : undefined
}

/** The file system type of the mount that holds `path`, from the text of /proc/self/mountinfo (proc(5)). */
export function mountType(path: string, mountinfo: string): string | undefined {
  const real = realpathSync(path)
  let best: { point: string; type: string | undefined } | undefined
  for (const line of mountinfo.split('\n')) {
    const [before, after] = line.split(' - ')
    const point = before?.split(' ')[4]?.replaceAll('\\040', ' ')
    if (point === undefined || after === undefined) continue
    const holds = real === point || real.startsWith(point.endsWith('/') ? point : `${point}/`)
    // Of two mounts on one point the later covers the earlier.
    if (holds && (best === undefined || point.length >= best.point.length)) best = { point, type: after.split(' ')[0] }
  }
  return best?.type
}
