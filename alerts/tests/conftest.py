"""What the alert tests share: one rule, two farmers, clocks that are set by hand, and a phone that honours ids."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import URL, Engine

from alerts.delivery import Backoff, Deliverer
from alerts.engine import AlertEngine
from alerts.rules import Kind, Observation, Rule
from alerts.schema import open_database, sqlite_url
from alerts.sms import Answer, Outcome
from alerts.subscriptions import Subscription
from alerts.texts import Quantity, Template, Wording

START = 1_773_000_000
RULE = Rule(
    id="rice",
    parameter="salinity",
    stations=("xuan-hoa", "vam-kenh"),
    set_level=2.0,
    clear_level=1.8,
    set_dwell_s=600,
    clear_dwell_s=600,
    text="salinity",
    crop={"vi": "lúa", "en": "rice"},
)
FARMERS = (
    Subscription("Ba Tám", "+84912345678", "vi", frozenset({"rice"})),
    Subscription("Chị Hoa", "+84987654321", "en", frozenset({"rice"})),
)


@dataclass
class HandClock:
    """A clock that shows what it was set to."""

    time: float = START

    def now(self) -> float:
        return self.time


@dataclass
class Phone:
    """A provider that honours idempotency keys; `answers` are played first, one per request."""

    inbox: dict[str, tuple[str, str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    answers: list[Answer | Callable[[], None]] = field(default_factory=list)

    def send(self, key: str, address: str, text: str) -> Answer:
        self.requests.append(text)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Answer):
                return answer
            self.inbox.setdefault(key, (address, text))
            answer()
        self.inbox.setdefault(key, (address, text))
        return Answer(Outcome.ACCEPTED, provider_id=f"p-{key[:8]}")


def template(kind: Kind, language: str, text: str) -> Template:
    return Template("salinity", kind, language, sms=text, page=text, effective_from=date(2026, 1, 1))


WORDING = Wording(
    templates=(
        template(Kind.RAISED, "vi", "Trạm {station}: mặn {value} {unit} lúc {time}. Không lấy nước vào."),
        template(Kind.CLEARED, "vi", "Trạm {station}: mặn {value} {unit} lúc {time}. Có thể lấy nước lại."),
        template(Kind.RAISED, "en", "Station {station}: {value} {unit} at {time}. Do not take water in."),
        template(Kind.CLEARED, "en", "Station {station}: {value} {unit} at {time}. You may take water again."),
    ),
    stations={"xuan-hoa": {"vi": "Xuân Hòa", "en": "Xuan Hoa"}, "vam-kenh": {"vi": "Vàm Kênh", "en": "Vam Kenh"}},
    quantities={"salinity": Quantity({"vi": "độ mặn", "en": "salinity"}, "g/L")},
    timezone=ZoneInfo("Asia/Ho_Chi_Minh"),
)


@dataclass
class Service:
    """The alert side of the cloud on a SQLite file: an engine, a deliverer, their clocks and a phone."""

    database: Engine
    rule: Rule = RULE
    clock: HandClock = field(default_factory=HandClock)
    phone: Phone = field(default_factory=Phone)
    real_s: float = 1_000_000.0

    def __post_init__(self) -> None:
        self.engine = AlertEngine(self.database, [self.rule], FARMERS, WORDING, self.clock)
        self.deliverer = Deliverer(
            self.database,
            {"sms": self.phone},
            self.clock,
            backoff=Backoff(first_s=2.0, longest_s=60.0),
            chance=random.Random(7),
            real_time=lambda: self.real_s,
        )

    def salinity(self, minute: int, value: float, *, station: str = "xuan-hoa", late_minutes: int = 0) -> list[str]:
        """Evaluate one observation of that minute; return what was raised or cleared."""
        self.clock.time = max(self.clock.time, START + (minute + late_minutes) * 60)
        observation = Observation(station, "salinity", START + minute * 60, value, 1)
        return [str(event.kind) for event in self.engine.evaluate([observation], cursor=str(minute))]

    def tide(self) -> None:
        """Ten minutes over the set level, then ten under the clear level: raised at 10, cleared at 25."""
        for minute, value in ((0, 2.5), (5, 2.5), (10, 2.6), (15, 1.5), (20, 1.5), (25, 1.4)):
            self.salinity(minute, value)

    def deliver(self, *, passes: int = 1, later_s: float = 0.0) -> int:
        self.real_s += later_s
        return sum(self.deliverer.deliver_due() for _ in range(passes))

    def statuses(self) -> list[str]:
        """All deliveries' statuses, the newest event's first."""
        return [delivery["status"] for event in self.engine.recent() for delivery in event["deliveries"]]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL | str:
    """Where an empty database is."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "alerts.sqlite")
    found: URL = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def database(url: URL | str) -> Iterator[Engine]:
    engine = open_database(url)
    yield engine
    engine.dispose()


@pytest.fixture
def service(database: Engine) -> Service:
    service = Service(database)
    service.engine.prepare()
    return service


@pytest.fixture
def restarted(database: Engine) -> Callable[[Service], Service]:
    """A new process on the same database: same clocks and phone, nothing else kept."""

    def restart(old: Service) -> Service:
        return replace(old, database=database)

    return restart


@pytest.fixture(scope="session")
def make_service() -> Callable[[Path | Service], Service]:
    """A service on a new file, or a new process in place of one that was killed."""

    def make(origin: Path | Service) -> Service:
        if isinstance(origin, Service):
            return replace(origin)
        service = Service(open_database(sqlite_url(origin)))
        service.engine.prepare()
        return service

    return make
