"""The gateway: carries records from the stations of its lines to the cloud, and loses none.

The way of the data, one module a step:

1. `poller` asks each station of a line in turn; `station_policy` says what to ask next and why,
   `station_link` asks it over Modbus RTU, `station_protocol` knows the bytes.
2. `outbox` stores every fetched slice durably before the station hears that it may forget it.
3. `uplink` publishes batches by MQTT; `uplink_policy` says which go next, `mqtt_session` is the connection,
   `messages` knows the topics.
4. Only a commit message frees the outbox. `status` tells people where everything is.
5. `gateway` starts the threads and stops them; `commands` is `tram-gateway`.
"""
