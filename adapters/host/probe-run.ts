import { execFile } from 'node:child_process'

/** What another program printed, bounded; `undefined` when it is not there. Never rejects. */
export function output(
  file: string,
  args: readonly string[],
  timeoutMs: number,
  maxBytes = 1 << 20,
): Promise<{ readonly code: number | string; readonly out: string; readonly err: string } | undefined> {
  const options = {
    timeout: timeoutMs,
    killSignal: 'SIGKILL' as const,
    maxBuffer: maxBytes,
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C.UTF-8', LC_ALL: 'C.UTF-8' },
  }
  return new Promise((resolve) => {
    execFile(file, [...args], options, (error, out, err) => {
      if (error?.code === 'ENOENT') return resolve(undefined)
      resolve({ code: error === null ? 0 : (error.code ?? 'a signal'), out, err })
    })
  })
}

/** `Name=value` lines, as systemd's tools print them. */
export function properties(text: string): Readonly<Record<string, string>> {
  return Object.fromEntries(
    text.split('\n').flatMap((line) => {
      const at = line.indexOf('=')
      return at < 1 ? [] : [[line.slice(0, at), line.slice(at + 1)] as const]
    }),
  )
}
