import { z } from 'zod'
import { absolutePath, duration, listenOrOff, listOf, MINUTE, text } from './scalars.ts'
import { serverTlsSchema } from './tls.ts'

export const metricsSchema = z.strictObject({
  listen: listenOrOff()
    .prefault('127.0.0.1:9464')
    .meta({ description: 'Where /metrics, /healthz and /readyz are served: host:port, or off.' }),
})

export const pageSchema = z.strictObject({
  listen: listenOrOff().prefault('off').meta({ description: 'Where the status page is served: host:port, or off.' }),
  passwordFile: absolutePath('file')
    .optional()
    .meta({ description: 'User names and password hashes for the page, in the format of mosquitto_passwd.' }),
  tls: serverTlsSchema
    .pick({ cert: true, key: true })
    .optional()
    .meta({ description: 'Serve the page over HTTPS. Without it a password crosses the network in clear.' }),
  hosts: listOf(text(/^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/, 'expected a host name without port'), 0, 20)
    .prefault([])
    .meta({ description: 'Names under which browsers reach the page, beside addresses, localhost and the name of the machine.' }),
})

export const controlSchema = z.strictObject({
  socket: absolutePath('socket').optional().meta({
    description: 'Socket for edgectl. Default: control.sock in gateway.dataDir.',
    example: '/run/edge-gateway/control.sock',
  }),
})

export const logSchema = z.strictObject({
  level: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal'])
    .default('info')
    .meta({ description: "Least severity of the gateway's own log." }),
})

export const shutdownSchema = z.strictObject({
  drain: duration(0, 10 * MINUTE)
    .prefault('20s')
    .meta({ description: "How long a stop may take to finish what was accepted. The unit's TimeoutStopSec must be longer." }),
})
