"""The gateways of a fleet in one process: a session each, batches up, commit messages down.

    python -m simulators.fleet.publisher FILE      FILE: {"plan": …, "broker": …, "begin_s": unix time of the start}

Prints a line of JSON a second, and with the last one everything that was measured. A batch no commit message has named
within COMMIT_TIMEOUT_S is sent again, as the real gateway does. Whoever started it decides how long it goes on.
"""

from __future__ import annotations

import heapq
import json
import random
import selectors
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from simulators.errors import SimulatorError
from simulators.fleet.commits import Pending
from simulators.fleet.patience import FleetStopped
from simulators.fleet.plan import FleetPlan
from simulators.fleet.records import Fleet

COMMIT_TIMEOUT_S = 30.0
CONNECT_WITHIN_S = 30.0
LATE_ROUNDS = 30
AT_ONCE = 50  # batches published before the sockets are looked at again


@dataclass(frozen=True)
class Batch:
    """One batch and the field time at which its gateway sends it."""

    due_s: float
    station: int
    number: int
    payload: bytes


def batches(plan: FleetPlan) -> Iterator[Batch]:
    """Yield every batch in the order of publishing: stations spread over a round, some late, some twice."""
    chance = random.Random(plan.seed)  # noqa: S311  no secret
    held: list[tuple[int, int, Batch]] = []
    fleet = Fleet(plan)
    for number in range(plan.rounds):
        for station, payload in enumerate(fleet.round(number)):
            due_s = plan.start_s + (number + 1 + station / plan.stations) * plan.round_s
            batch = Batch(due_s, station, number, payload)
            if chance.random() < plan.late:
                later_s = min(due_s + LATE_ROUNDS * plan.round_s, plan.start_s + plan.span_s + plan.round_s)
                heapq.heappush(held, (number + LATE_ROUNDS, station, replace(batch, due_s=later_s)))
                continue
            yield batch
            if chance.random() < plan.doubled:
                yield batch
        while held and held[0][0] <= number:
            yield heapq.heappop(held)[2]
    yield from (batch for _, _, batch in sorted(held, key=lambda one: one[:2]))


class Sessions:
    """One MQTT session for each gateway, all driven by whoever calls `turn`."""

    def __init__(self, plan: FleetPlan, broker: dict[str, Any], pending: Pending) -> None:
        self._pending = pending
        self._selector = selectors.DefaultSelector()
        self._subscribed: set[str] = set()
        self._clients = {gateway: self._connect(gateway, broker) for gateway in plan.gateways}
        self._last_misc_s = 0.0

    def _connect(self, gateway: str, broker: dict[str, Any]) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=gateway)
        user = broker["user"] or gateway
        secret = broker["passwords"].get(user)
        if secret is not None:
            client.username_pw_set(user, Path(secret).read_text(encoding="utf-8").splitlines()[0])
        if broker["tls"]:
            client.tls_set(broker["ca_file"], tls_version=ssl.PROTOCOL_TLS_CLIENT)
        client.max_inflight_messages_set(0)  # our window counts commits, not acknowledgements
        client.on_connect = lambda one, *_: one.subscribe(f"tram/v1/commits/{gateway}", 1)
        client.on_subscribe = lambda *_: self._subscribed.add(gateway)
        client.on_message = lambda _, __, message: self._pending.take(bytes(message.payload), time.time())
        try:
            client.connect(broker["host"], broker["port"], keepalive=60)
        except OSError as error:
            raise FleetStopped(f"{gateway}: no connection to {broker['host']}:{broker['port']}: {error}") from None
        link = client.socket()
        assert link is not None
        self._selector.register(link.fileno(), selectors.EVENT_READ, client)
        return client

    def wait_subscribed(self) -> None:
        """Raise FleetStopped when the broker does not take every gateway."""
        until = time.monotonic() + CONNECT_WITHIN_S
        while len(self._subscribed) < len(self._clients):
            if time.monotonic() > until:
                missing = sorted(set(self._clients) - self._subscribed)
                raise FleetStopped(f"{len(missing)} gateways are not let in by the broker, {missing[0]} among them")
            self.turn(0.1)

    def publish(self, gateway: str, topic: str, payload: bytes) -> None:
        """Hand a batch to the broker."""
        self._clients[gateway].publish(topic, payload, 1)

    def turn(self, wait_s: float) -> None:
        """Read what has come, write what waits. Raises FleetStopped when the broker has ended a session."""
        for key, _ in self._selector.select(wait_s):
            if key.data.loop_read() != mqtt.MQTT_ERR_SUCCESS:
                raise FleetStopped("the broker has ended a session; see its log")
        for client in self._clients.values():
            if client.want_write():
                client.loop_write()
        if time.monotonic() - self._last_misc_s > 1.0:
            self._last_misc_s = time.monotonic()
            for client in self._clients.values():
                client.loop_misc()

    def close(self) -> None:
        """Say goodbye."""
        for client in self._clients.values():
            client.disconnect()


class Publisher:
    """Publishes a plan; `run` returns what was measured."""

    def __init__(self, plan: FleetPlan, broker: dict[str, Any], begin_s: float) -> None:
        self._plan = plan
        self._begin_s = begin_s
        self._pending = Pending(plan)
        self._sessions = Sessions(plan, broker, self._pending)
        self._topics = [plan.topic(at) for at in range(plan.stations)]
        self._sent = 0
        self._sent_again = 0
        self._told_s = 0.0
        self._warm_s: float | None = None  # when every station was known to the cloud
        self._warm_batches = 0

    def run(self) -> dict[str, object]:
        """Publish everything and wait for the last commit message. Raises FleetStopped."""
        self._sessions.wait_subscribed()
        began_s, cpu_s = time.time(), time.process_time()
        for batch in batches(self._plan):
            self._wait_for_turn(batch)
            since_s = self._due(batch) if self._plan.speed else time.time()
            self._pending.send(batch.station, batch.number, batch.payload, since_s)
            self._publish(batch.station, batch.payload)
        offered_s = time.time() - began_s
        while not self._pending.is_complete:
            self._look(0.05)
        took_s = time.time() - began_s
        self._sessions.close()
        warm_s = began_s if self._warm_s is None else self._warm_s
        known = 0 if self._warm_s is None else self._warm_batches
        lags = np.array(self._pending.lags_s)[known:]
        return {
            "offered_s": offered_s,
            "took_s": took_s,
            "warm_up_s": warm_s - began_s,
            "warm_up_records": known * self._plan.batch_records,
            "cpu_s": time.process_time() - cpu_s,
            "batches": self._sent,
            "sent_again": self._sent_again,
            "committed": self._pending.records_done,
            "lag_s": [float(one) for one in np.quantile(lags, (0.5, 0.95, 1.0))],
        }

    def _due(self, batch: Batch) -> float:
        return self._begin_s + (batch.due_s - self._plan.start_s) / self._plan.speed

    def _wait_for_turn(self, batch: Batch) -> None:
        """Wait until a batch is due and there is room in the window."""
        if self._sent % AT_ONCE == 0:
            self._look(0.0)
        while len(self._pending) >= self._plan.window * len(self._plan.gateways):
            self._look(0.01)
        while self._plan.speed and (early_s := self._due(batch) - time.time()) > 0:
            self._look(min(early_s, 0.05))

    def _publish(self, station: int, payload: bytes) -> None:
        self._sent += 1
        self._sessions.publish(self._plan.gateway_of(station), self._topics[station], payload)

    def _look(self, wait_s: float) -> None:
        self._sessions.turn(wait_s)
        now_s = time.time()
        if now_s - self._told_s < 1.0:
            return
        self._told_s = now_s
        done = self._pending.batches_done
        for station, payload in self._pending.overdue(COMMIT_TIMEOUT_S, now_s):
            self._sent_again += 1
            self._publish(station, payload)
        if self._warm_s is None and done >= self._plan.stations and self._plan.rounds > 1:
            self._warm_s, self._warm_batches = now_s, done
        waiting, committed = len(self._pending), self._pending.records_done
        tell({"warm": self._warm_s is not None, "sent": self._sent, "waiting": waiting, "committed": committed})


def tell(line: dict[str, object]) -> None:
    """Print a line of JSON for whoever started us."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Publish the plan of the file that is named."""
    told = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    try:
        result = Publisher(FleetPlan(**told["plan"]), told["broker"], told["begin_s"]).run()
    except SimulatorError as error:
        tell({"error": str(error)})
        return 1
    tell({"result": result})
    return 0


if __name__ == "__main__":
    sys.exit(main())
