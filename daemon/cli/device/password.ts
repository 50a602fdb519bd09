import { randomInt } from 'node:crypto'

/** 120 bits in groups that a person can type. No 0, 1, l or o, which look alike. */
export function madeUpPassword(): string {
  const letters = '23456789abcdefghijkmnpqrstuvwxyz'
  const group = (): string => Array.from({ length: 4 }, () => letters[randomInt(letters.length)]).join('')
  return Array.from({ length: 6 }, group).join('-')
}
