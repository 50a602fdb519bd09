"""
Publishes with Eclipse Paho: argv is port, client id, QoS, first and last number. One line of JSON when all are
acknowledged. A lost connection is made again once, when a line comes on stdin: after a second attempt Paho (1.6, 2.1)
forgets that it had a PUBREC, and publishes anew.
"""
import json
import sys
import paho.mqtt.client as mqtt

port, name, qos, first, last = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
options = {"client_id": name, "clean_session": False}
if hasattr(mqtt, "CallbackAPIVersion"):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION1, **options)
else:
    client = mqtt.Client(**options)
client.max_inflight_messages_set(20)
client.connect("127.0.0.1", port, keepalive=60)
sent = [
    client.publish(f"devices/{name}/logs/app/{name}-{number}", bytes([number % 256, 0, 255, 13, 10]) * (number % 50), qos=qos)
    for number in range(first, last + 1)
]
while not all(message.is_published() for message in sent):
    if client.loop(0.1) != mqtt.MQTT_ERR_SUCCESS:
        sys.stdin.readline()
        client.reconnect()
client.disconnect()
print(json.dumps({"acknowledged": sum(message.is_published() for message in sent)}))
