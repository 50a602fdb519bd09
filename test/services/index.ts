/**
 * Real services for tests: mosquitto, etcd and Apache Kafka on 127.0.0.1, a TCP proxy with faults,
 * and a Debian with its own systemd.
 * Needs Linux, root for Debian, Java 17 and the Debian packages that `npm run services -- up` installs.
 */
export { makeCertificates } from './certificates.ts'
export type { Certificates, KeyPair } from './certificates.ts'
export { bootDebian } from './debian.ts'
export type { Debian, DebianOptions, Ran } from './debian.ts'
export { startEtcd, startEtcdCluster } from './etcd.ts'
export type { EtcdCluster, EtcdOptions, EtcdTls } from './etcd.ts'
export { startKafka } from './kafka.ts'
export type { KafkaOptions, KafkaService } from './kafka.ts'
export type { KafkaProperties, KafkaSasl, KafkaSecurity, KafkaTls } from './kafka-config.ts'
export { KAFKA_API } from './kafka-frames.ts'
export { kafkaTool } from './kafka-tool.ts'
export type { ToolOptions, ToolResult } from './kafka-tool.ts'
export { startMosquitto } from './mosquitto.ts'
export type { MosquittoOptions } from './mosquitto.ts'
export { freePort } from './ports.ts'
export { startProxy } from './proxy.ts'
export type { KafkaVerdict, Proxy, ProxyOptions, RequestHook } from './proxy.ts'
export { serviceScope } from './scope.ts'
export type { ServiceScope } from './scope.ts'
export type { Service } from './service.ts'
