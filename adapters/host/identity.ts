/**
 * As whom the program touches files. The whole program changes, not one call of it: whoever uses this does one thing at
 * a time. `setuid` in full could not be taken back, and is for what is started (credentials(7)).
 */
export interface Account {
  readonly uid: number
  readonly gid: number
}

/** As whom it was started. */
const own: Account = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 }
const ownGroups = process.getgroups?.() ?? []
let acting: Account = own

/** `work` with the rights of the account and no more; then as before. Only root may become somebody else. */
export async function actAs<T>(account: Account, work: () => Promise<T>): Promise<T> {
  const before = acting
  become(account)
  try {
    return await work()
  } finally {
    become(before)
  }
}

/** `work` as whom the program was started. */
export function asOneself<T>(work: () => Promise<T>): Promise<T> {
  return actAs(own, work)
}

/** Groups first and user last, since only root may change the groups. */
function become(account: Account): void {
  if (account.uid === acting.uid && account.gid === acting.gid) return
  if (acting.uid !== own.uid) process.seteuid?.(own.uid)
  const isOwn = account.uid === own.uid && account.gid === own.gid
  process.setgroups?.(isOwn ? ownGroups : [account.gid])
  process.setegid?.(account.gid)
  process.seteuid?.(account.uid)
  acting = account
}
