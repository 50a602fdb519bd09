export { startEtcd, startEtcdCluster } from './etcd.ts';
export type { EtcdCluster, EtcdOptions } from './etcd.ts';
export { startKafka } from './kafka.ts';
export type { KafkaOptions, KafkaService } from './kafka.ts';
export { kafkaTool } from './kafka-tool.ts';
export { startMosquitto } from './mosquitto.ts';
export type { MosquittoOptions } from './mosquitto.ts';
export { freePort } from './ports.ts';
export type { Service } from './service.ts';
