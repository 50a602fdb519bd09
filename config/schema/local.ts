import { z } from 'zod'
import { absolutePath, duration, listenOrOff, MINUTE } from './scalars.ts'

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
})

export const controlSchema = z.strictObject({
  socket: absolutePath('socket').optional().meta({
    description: 'Socket for edgectl. Default: control.sock in RUNTIME_DIRECTORY as systemd sets it, else in gateway.dataDir.',
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
