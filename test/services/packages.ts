/** Runs before the tests: no test may be the first to find a program missing. */
import { ensurePackages } from './install.ts'

ensurePackages()
