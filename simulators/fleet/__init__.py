"""A fleet of stations that exist only as what their gateways publish, against the real broker and the real cloud.

plan.py       how many stations, what they measure, how fast; and the network.toml that knows them
records.py    their records, many at once (numpy)
commits.py    what is sent and not yet named by a commit message, and how long that took
publisher.py  the process that publishes, one MQTT session for each gateway
servers.py    broker and cloud (one machine, or workers with PostgreSQL and InfluxDB) as processes, and what each takes
command.py    `tram-sim fleet`: all of it, the audit at the end, the figures
"""
