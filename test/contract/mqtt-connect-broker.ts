/** A broker that does exactly as told: for what no real one can be made to do on demand. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import mqttPacket from 'mqtt-packet'
import type { Packet } from 'mqtt-packet'
import type { ServiceScope } from '../services/index.ts'
import { until } from './mqtt-connect-kit.ts'

export class Peer {
  readonly socket: Socket
  readonly received: Packet[] = []
  /** One entry for each chunk that came. */
  readonly chunks: Buffer[] = []
  readonly #version: 4 | 5

  constructor(socket: Socket, version: 4 | 5) {
    this.socket = socket
    this.#version = version
  }

  send(...packets: Packet[]): void {
    this.socket.write(Buffer.concat(packets.map((packet) => mqttPacket.generate(packet, { protocolVersion: this.#version }))))
  }

  publish(messageId: number, payload: string, changes: { dup?: boolean; qos?: 0 | 1 | 2; topic?: string } = {}): void {
    this.send({ cmd: 'publish', topic: 'devices/d1/logs/app', payload, qos: 1, dup: false, retain: false, messageId, ...changes })
  }

  /** Packet ids acknowledged so far, in the order of arrival. */
  acknowledged(cmd: 'puback' | 'pubrec' | 'pubcomp' = 'puback'): number[] {
    return this.received.filter((packet) => packet.cmd === cmd).map((packet) => (packet as { messageId: number }).messageId)
  }
}

export interface ScriptedBroker {
  readonly url: string
  readonly peers: readonly Peer[]
  /** The n-th connection, once it has subscribed. */
  peer(index: number): Promise<Peer>
}

/** Accepts everyone (`answer` may decide otherwise), says that the session is there, grants each subscription. */
export async function scriptedBroker(
  scope: ServiceScope,
  version: 4 | 5,
  answer: (packet: Packet, peer: Peer) => boolean = () => false,
): Promise<ScriptedBroker> {
  const peers: Peer[] = []
  const server = createServer((socket) => {
    const peer = new Peer(socket, version)
    peers.push(peer)
    const parser = mqttPacket.parser({ protocolVersion: version })
    parser.on('packet', (packet: Packet) => {
      peer.received.push(packet)
      if (!answer(packet, peer)) reply(packet, peer)
    })
    socket.on('data', (bytes: Buffer) => {
      peer.chunks.push(bytes)
      parser.parse(bytes)
    })
    socket.on('error', () => undefined) // a client that goes away is part of the script
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  scope.atEnd(() => {
    peers.forEach(({ socket }) => socket.destroy())
    server.close()
  })
  const subscribed = (index: number): boolean => peers[index]?.received.some(({ cmd }) => cmd === 'subscribe') ?? false
  return {
    url: `mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`,
    peers,
    async peer(index) {
      await until(`connection ${index} subscribes`, () => subscribed(index))
      return peers[index] as Peer
    },
  }
}

function reply(packet: Packet, peer: Peer): void {
  if (packet.cmd === 'connect') peer.send({ cmd: 'connack', sessionPresent: true, returnCode: 0, reasonCode: 0 })
  if (packet.cmd === 'subscribe')
    peer.send({ cmd: 'suback', messageId: packet.messageId as number, granted: packet.subscriptions.map(({ qos }) => qos) })
  if (packet.cmd === 'unsubscribe')
    peer.send({ cmd: 'unsuback', messageId: packet.messageId as number, granted: packet.unsubscriptions.map(() => 0) })
  if (packet.cmd === 'pingreq') peer.send({ cmd: 'pingresp' })
}
