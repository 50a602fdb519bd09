import { z } from 'zod'
import { absolutePath } from './scalars.ts'

/** TLS of a link that the gateway opens; the certificate must bear the host of the address. Files are read again when they change. */
export const clientTlsSchema = z.strictObject({
  ca: absolutePath('file')
    .optional()
    .meta({ description: "PEM file of the authorities that may sign the server's certificate. Default: those of the system." }),
  cert: absolutePath('file').optional().meta({ description: "PEM file of the gateway's own certificate, when the server asks for one." }),
  key: absolutePath('file').optional().meta({ description: 'PEM file of the private key of `cert`.' }),
})

/** TLS of a listener. Files are read again when they change. */
export const serverTlsSchema = z.strictObject({
  cert: absolutePath('file').meta({
    description: "PEM file of the server's certificate and its chain.",
    example: '/etc/edge-gateway/server.crt',
  }),
  key: absolutePath('file').meta({ description: 'PEM file of the private key of `cert`.', example: '/etc/edge-gateway/server.key' }),
  ca: absolutePath('file').optional().meta({ description: "PEM file of the authorities that may sign devices' certificates." }),
  crl: absolutePath('file')
    .optional()
    .meta({ description: 'PEM file of revoked certificates (CRL). It must not expire: then nobody gets in.' }),
  requireClientCert: z.boolean().default(false).meta({ description: 'Refuse devices without a certificate signed by `ca`.' }),
})
