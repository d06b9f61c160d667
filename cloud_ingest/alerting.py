"""The wiring of alerts: what arrives in the store goes to the engine, in order, exactly once per cursor."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from alerts.delivery import Deliverer
from alerts.engine import AlertEngine
from alerts.gateway_warnings import GatewayWarnings
from alerts.rules import Observation as AlertObservation
from alerts.rules import Rule
from cloud_ingest.columns import Observation, SeriesKey
from cloud_ingest.errors import StoreUnavailable
from cloud_ingest.reading import Reader
from station_config.parameters import Vocabulary

ARRIVALS_AT_ONCE = 20_000
IDLE_S = 5.0
RETRY_S = 2.0

log = structlog.get_logger()


@dataclass
class AlertWorker:
    """Follows the store's arrivals in a thread of its own. `arrived` wakes it."""

    engine: AlertEngine
    deliverer: Deliverer | None
    reader: Reader
    vocabulary: Vocabulary
    arrived: threading.Event
    warnings: GatewayWarnings

    def run(self, stop: threading.Event) -> None:
        """Evaluate until `stop` is set; outlive a store or an alert database that is in trouble."""
        trouble = False
        while not stop.is_set():
            self.arrived.clear()
            try:
                more = self.evaluate_arrivals()
                trouble = False
            except (SQLAlchemyError, StoreUnavailable) as error:
                if not trouble:
                    log.warning("alerts wait", reason=str(error), advice="they go on by themselves")
                trouble, more = True, False
                stop.wait(RETRY_S)
            if not more and not stop.is_set():
                self.arrived.wait(IDLE_S)

    def wake_delivery(self) -> None:
        """Have due messages looked for now."""
        if self.deliverer is not None:
            self.deliverer.wake()

    def evaluate_arrivals(self) -> bool:
        """Take the next arrivals into account; return whether there may be more."""
        cursor = self._cursor()
        arrivals = self.reader.arrivals_after(cursor, ARRIVALS_AT_ONCE)
        if not arrivals:
            return False
        cursor_ = str(arrivals[-1].arrival)
        events = self.engine.evaluate(self._observations(arrivals), cursor=cursor_, history=self._history)
        if events:
            self.wake_delivery()
        return True

    def _history(self, rule: Rule, station: str, first: int, last: int) -> list[AlertObservation]:
        """Return what the store has for a rule at a station, in order of time, with the flags of now."""
        code = self.vocabulary.by_name[rule.parameter].code
        found = []
        for sensor in self.reader.sensors_of(station, code) if rule.sensor is None else [rule.sensor]:
            times, values, flags = self.reader.series(SeriesKey(station, sensor, code), first, last)
            for time, value, flag in zip(times.tolist(), values.tolist(), flags.tolist(), strict=True):
                shown = None if value != value else value
                found.append(AlertObservation(station, rule.parameter, time, shown, flag, sensor))
        return sorted(found, key=lambda one: (one.time, one.sensor))

    def _cursor(self) -> int:
        cursor = int(self.engine.cursor() or 0)
        if cursor > self.reader.last_arrival():
            log.warning("the store is older than the alerts, evaluating all of it again", cursor=cursor)
            return 0
        return cursor

    def _observations(self, arrivals: Sequence[Observation]) -> list[AlertObservation]:
        observations = []
        for one in arrivals:
            parameter = self.vocabulary.by_code.get(one.parameter)
            if parameter is not None:
                observations.append(
                    AlertObservation(one.station, parameter.name, one.time, one.value, one.flag, one.sensor)
                )
        return observations
