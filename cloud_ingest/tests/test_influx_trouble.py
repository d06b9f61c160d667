"""A store of observations that is killed, refuses, delays and lies: nothing is lost, nothing acknowledged early."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from cloud_ingest import influx_link
from cloud_ingest.columns import Observed, SeriesKey
from cloud_ingest.configuration import load_configuration
from cloud_ingest.errors import PointsRefused, StoreRefused, StoreUnavailable
from cloud_ingest.influx_observations import InfluxStore, faults_of
from cloud_ingest.observation_settings import ObservationSettings
from cloud_ingest.tests.field import EC25, NETWORK, T0, batch, minutes
from cloud_ingest.tests.influx_server import InfluxServer, an_influx_server
from cloud_ingest.tests.place import Place
from cloud_ingest.tests.test_ingest import Bench
from station_config.errors import ConfigurationError

KEY = SeriesKey("xuan-hoa", 1, EC25)
Answer = tuple[int, bytes]


class FalseServer:
    """Between us and a real server: passes everything on, until it is told to do otherwise for a path."""

    def __init__(self, real: str) -> None:
        self.instead: dict[str, Callable[[Answer], Answer | None]] = {}  # by path; None: the connection breaks
        self.before: dict[str, Answer] = {}  # by path: answered without asking the real server
        self.released = threading.Event()
        self.delays: set[str] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                path = self.path.split("?")[0]
                if path in outer.delays:
                    outer.released.wait(60)
                answer = outer.before.get(path) or outer._passed(real, self, body)
                told = outer.instead[path](answer) if path in outer.instead else answer
                if told is None:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(answer[1]) + 10))
                    self.end_headers()
                    self.wfile.write(answer[1][:20])
                    self.close_connection = True
                    return
                self.send_response(told[0])
                self.send_header("Content-Length", str(len(told[1])))
                self.end_headers()
                self.wfile.write(told[1])

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _passed(self, real: str, asked: BaseHTTPRequestHandler, body: bytes) -> Answer:
        headers = {name: asked.headers[name] for name in ("Authorization", "Content-Type") if asked.headers[name]}
        answer = httpx.post(f"{real}{asked.path}", content=body, headers=headers, trust_env=False, timeout=60)
        return answer.status_code, answer.content

    def honest(self) -> None:
        self.instead, self.before, self.delays = {}, {}, set()
        self.released.set()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def false(influx_server: InfluxServer) -> Iterator[FalseServer]:
    server = FalseServer(influx_server.url)
    yield server
    server.close()


@pytest.fixture
def bench(tmp_path: Path, false: FalseServer, influx_server: InfluxServer) -> Iterator[Bench]:
    settings = influx_server.database().model_copy(update={"url": false.url})
    store = InfluxStore(settings)
    with ExitStack() as stack:
        stack.callback(store.close)
        one = Bench(tmp_path, Place(store))
        stack.enter_context(one.store)
        stack.callback(one.reader.close)
        yield one


WRITE, QUERY = "/api/v2/write", "/query"
PARTIAL = b'{"error":"partial write: points beyond retention policy dropped=3"}'

UNAVAILABLE: dict[str, Answer] = {
    "too busy": (503, b"try later"),
    "disk full": (500, b'{"error":"engine: error writing WAL entry: no space left on device"}'),
    "too many requests": (429, b""),
    "rights that are being changed": (401, b'{"error":"authorization failed"}'),
    "a database that somebody drops": (404, b'{"error":"database not found"}'),
    "a proxy's redirect": (302, b""),
    "an answer that is not 'stored'": (200, b'{"ok":true}'),
}


@pytest.mark.parametrize("answer", UNAVAILABLE.values(), ids=list(UNAVAILABLE))
def test_what_may_pass_is_waited_for_and_nothing_is_acknowledged(
    bench: Bench, false: FalseServer, answer: Answer
) -> None:
    false.before[WRITE] = answer
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=f"HTTP {answer[0]}"):
            bench.take(batch(minutes(5)))
    assert bench.reader.journals() == []
    false.honest()
    assert bench.committed(bench.take(batch(minutes(5)))) == [[1, 10]]
    assert len(bench.values(EC25)) == 5


def test_an_answer_that_gets_lost_after_the_write_is_asked_for_again(bench: Bench, false: FalseServer) -> None:
    """The server has stored it and we do not know: the same records come again and are found."""
    false.instead[WRITE] = lambda _: (502, b"<html><h1>502 Bad Gateway</h1></html>")
    with pytest.raises(StoreUnavailable, match="502 Bad Gateway"):
        bench.take(batch(minutes(5)))
    false.honest()
    outcome = bench.take(batch(minutes(7)), batch(minutes(7, ec25=9.0), journal=77))
    assert outcome.counts.stored == 28
    assert {value for value, _ in bench.values(EC25).values()} == {12.5}
    assert [journal.conflicts for journal in bench.reader.journals()] == [0, 14]


@pytest.mark.parametrize("status", [400, 422])
def test_points_the_server_drops_are_told_with_the_reason_and_what_to_do(
    bench: Bench, false: FalseServer, status: int
) -> None:
    false.before[WRITE] = (status, PARTIAL)
    with pytest.raises(PointsRefused, match=r"beyond retention policy dropped=3; .*infinite"):
        bench.take(batch(minutes(5)))
    assert bench.reader.journals() == []


def test_a_server_that_never_answers_is_given_up_and_tried_again(
    bench: Bench, false: FalseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.take(batch(minutes(1)))
    link = bench.place.observations.link  # type: ignore[union-attr]
    false.delays.add(WRITE)
    with monkeypatch.context() as impatient:
        impatient.setattr(influx_link, "WRITE_S", 0.2)
        link.close()  # so that it connects with the shorter patience
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            bench.take(batch(minutes(5)))
    link.close()
    false.honest()
    assert bench.committed(bench.take(batch(minutes(5)))) == [[1, 10]]


LIES: dict[str, Callable[[Answer], Answer | None]] = {
    "an error in a good answer": lambda _: (200, b'{"results":[{"error":"timeout"}]}'),
    "half an answer": lambda answer: None,
    "more to come that does not": lambda _: (200, b'{"results":[{"statement_id":0,"partial":true}]}'),
    "no JSON": lambda _: (200, b"<html>hello</html>"),
    "another JSON": lambda _: (200, b'{"results":5}'),
    "nothing": lambda _: (200, b""),
    "other columns": lambda _: (200, b'{"results":[{"series":[{"columns":["time"],"values":[[1]]}]}]}'),
    "texts for numbers": lambda _: (
        200,
        b'{"results":[{"series":[{"columns":["time","count","failed","journal"],"values":[[1,"a",2,3]]}]}]}',
    ),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=list(LIES))
def test_a_lie_is_no_answer(bench: Bench, false: FalseServer, lie: Callable[[Answer], Answer | None]) -> None:
    """What cannot be read back is not taken for absent: then a later record would take an earlier one's place."""
    bench.take(batch(minutes(5)))
    false.instead[QUERY] = lie
    with pytest.raises(StoreUnavailable):
        bench.take(batch(minutes(5, ec25=9.0), journal=77))
    with pytest.raises(StoreUnavailable), bench.reader.snapshot() as moment:
        moment.log.counted([bench.store.series[KEY]], T0, T0 + 3600)
    false.honest()
    bench.take(batch(minutes(5, ec25=9.0), journal=77))
    assert {value for value, _ in bench.values(EC25).values()} == {12.5}


def test_a_server_killed_amid_writing_has_everything_when_it_is_back(tmp_path: Path) -> None:
    with an_influx_server(tmp_path / "server") as server, ExitStack() as stack:
        store = InfluxStore(server.database())
        stack.callback(store.close)
        bench = Bench(tmp_path, Place(store))
        stack.enter_context(bench.store)
        stack.callback(bench.reader.close)
        committed = []
        for at in range(6):
            if at in (2, 4):
                server.kill()
                with pytest.raises(StoreUnavailable):
                    bench.take(batch(minutes(50, 1 + 100 * at, T0 + 3000 * at)))
                server.start_influxd()
            committed += bench.committed(bench.take(batch(minutes(50, 1 + 100 * at, T0 + 3000 * at))))
        assert committed == [[1 + 100 * at, 100 + 100 * at] for at in range(6)]
        server.kill()
        server.start_influxd()
        assert len(bench.values(EC25)) == 300


def test_a_bucket_that_forgets_and_one_that_is_not_there_are_told_at_the_start(influx_server: InfluxServer) -> None:
    def told(settings: ObservationSettings) -> list[str]:
        store = InfluxStore(settings)
        try:
            return list(faults_of(store.link, settings))
        finally:
            store.close()

    week, ever = influx_server.database("7d"), influx_server.database()
    assert told(ever) == told(ever.model_copy(update={"bucket": f"{ever.bucket}/autogen"})) == []
    assert "forgets after 168h0m0s" in told(week)[0]
    with pytest.raises(StoreRefused, match=r"HTTP 403.*token_file"):
        told(ever.model_copy(update={"bucket": "another"}))
    with pytest.raises(StoreRefused, match="HTTP 401"):
        told(ever.model_copy(update={"token_file": None}))


def test_names_that_want_escaping_come_back(influx_server: InfluxServer, tmp_path: Path) -> None:
    names = ["a b", "a,b=c", "it's", 'say "hi"', "Xuân Hòa", "a=b c,d"]
    store = InfluxStore(influx_server.database())
    bench = Bench(tmp_path, Place(store))
    with bench.store:
        for at, name in enumerate(names):
            with bench.store.transaction() as transaction:
                number = transaction.series_number(SeriesKey(name, 1, EC25))
                journal = transaction.journal_number(name, 7)
                one = [np.array([value]) for value in (T0, number, at, float(at))]
                flags, rest = np.array([1], np.uint8), [np.array([value]) for value in (journal, at, 0, 0)]
                transaction.log.add(_observed(*one, flags, *rest))
        with bench.reader.snapshot() as moment:
            numbers = [bench.store.series[SeriesKey(name, 1, EC25)] for name in names]
            found = moment.log.logged(numbers, T0, T0)
        assert [found[number].count.tolist() for number in numbers] == [[at] for at in range(len(names))]
        with bench.store.transaction() as transaction:
            number = transaction.series_number(SeriesKey("a\nb", 1, EC25))
            rows = _observed(*one[:1], np.array([number]), *one[2:], flags, *rest)
            with pytest.raises(StoreRefused, match="no way to write"):
                transaction.log.add(rows)
    bench.reader.close()
    store.close()


def _observed(*columns: Any) -> Observed:
    return Observed(*columns)


CONFIGURATION = """network = "network.toml"
state_dir = "state"
[observations]
url = "http://influx.example.org:8086"
bucket = "tram"
token_file = "token"
ca_file = "ca.pem"
"""


def test_faults_of_the_table_are_told_all_at_once_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "network.toml").write_text(NETWORK)
    (tmp_path / "cloud.toml").write_text(CONFIGURATION)
    with pytest.raises(ConfigurationError) as told:
        load_configuration(tmp_path / "cloud.toml")
    lines = str(told.value).splitlines()
    assert [line.split("cloud.toml")[1][:30].split(" ")[0] for line in lines] == [":4:", ":6:", ":7:", ":7:"]
    assert "https" in lines[0]


def test_the_token_is_in_no_text_of_an_error(influx_server: InfluxServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("somebody:very-secret-word\n")
    settings = influx_server.database().model_copy(update={"token_file": tmp_path / "token"})
    store = InfluxStore(settings)
    for work in (lambda: store.link.write(["observations flag=1i 5"]), lambda: list(store.link.ask("SELECT 1"))):
        with pytest.raises(StoreUnavailable) as told:
            work()
        assert "very-secret-word" not in repr(told.value)
        assert "HTTP 401" in str(told.value)
    store.close()
