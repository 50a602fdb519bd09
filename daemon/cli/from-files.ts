import type { LoadedConfig } from '../../config/load.ts'
import type { GatewayError } from '../errors.ts'

export async function fromFiles(_loaded: LoadedConfig, _path: string, error: GatewayError): Promise<unknown> {
  throw error
}
