/** What the two builds differ in. */
export interface Architecture {
  /** Debian's name. */
  readonly debian: 'amd64' | 'arm64'
  /** Node's name. */
  readonly node: 'x64' | 'arm64'
}

export const ARCHITECTURES: readonly Architecture[] = [
  { debian: 'amd64', node: 'x64' },
  { debian: 'arm64', node: 'arm64' },
]
