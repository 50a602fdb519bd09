import { writeToStream } from 'mqtt-packet'

/**
 * aedes and MQTT.js write with mqtt-packet, which at its first packet makes a buffer for each packet id there is, and
 * keeps all 65,536: 8 MB, and most of what each collection has to look at. It seldom writes an id here, since the
 * acknowledgements are our own.
 */
Object.assign(writeToStream, { cacheNumbers: false })
