"""A small service for the page's tests: the product's page files, and the API's JSON shapes with scripted figures.

Only what the page's own behaviour needs (a gap, a failed value, a station out of contact, a silent service) is scripted
here; the real API is tested with its own data. `python -m cloud_ingest.tests.page_fixture` serves it for a look.
"""

from __future__ import annotations

import json
import math
import mimetypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = REPOSITORY / "cloud_ingest" / "pages"
BENCH_PAGES = REPOSITORY / "simulators" / "pages"
CONTENT_SECURITY_POLICY = "default-src 'self'; img-src 'self' data:"

NOW = 1772265900  # 2026-02-28 15:05 in Vietnam, a spring tide in the dry season
INTERVAL_S = 300
GAP = (NOW - 20 * 3600, NOW - 17 * 3600)
M2_S = 44714.16
K1_S = 86164.09

Json = dict[str, Any]


def salinity_at(river_km: float, time_s: float) -> float:
    """A tidal wave of salt that fades inland, g/L: shaped like the Tiền's, without being a model of it."""
    tide = math.sin(2 * math.pi * (time_s - NOW) / M2_S + 0.9) + 0.45 * math.sin(2 * math.pi * (time_s - NOW) / K1_S)
    return round(24.0 / (1 + math.exp((river_km - 21 - 5.5 * tide) / 8.5)), 3)


def value(
    sensor: int, parameter: str, figure: float | None, unit: str, decimals: int, vi: str, en: str, **more: Any
) -> Json:
    """One entry of a station's `latest`."""
    entry = {"sensor": sensor, "parameter": parameter, "value": figure, "unit": unit, "flag": 1, "time": NOW - 60}
    return {**entry, "decimals": decimals, "label": {"vi": vi, "en": en}, **more}


def station(name: str, vi: str, en: str, latitude: float, longitude: float, river: str, river_km: float) -> Json:
    latest = [
        value(1, "salinity", salinity_at(river_km, NOW - 60), "g/L", 3, "Độ mặn", "Salinity"),
        value(1, "water_temperature", 28.41, "Cel", 2, "Nhiệt độ nước", "Water temperature"),
        value(2, "water_level", 1.273 - river_km / 100, "m", 3, "Mực nước", "Water level"),
        value(3, "air_temperature", 32.6, "Cel", 2, "Nhiệt độ không khí", "Air temperature"),
        value(3, "relative_humidity", 67.0, "%", 1, "Độ ẩm", "Relative humidity"),
        value(3, "wind_speed", 4.2, "m/s", 2, "Tốc độ gió", "Wind speed"),
        value(3, "wind_from_direction", 78.0, "deg", 1, "Hướng gió", "Wind from direction"),
        value(3, "wind_speed_of_gust", 7.9, "m/s", 2, "Gió giật", "Wind gust"),
        value(3, "air_pressure", 1009.4, "hPa", 2, "Khí áp", "Air pressure"),
        value(0, "free_heap", 61.5, "KiBy", 1, "Bộ nhớ trống", "Free heap", flag=2),
    ]
    rice = {"id": "rice", "crop": {"vi": "lúa", "en": "rice"}, "set": 1.0, "clear": 0.8}
    mango = {"id": "mango", "crop": {"vi": "xoài", "en": "mango"}, "set": 3.0, "clear": 2.7}
    place = {"latitude": latitude, "longitude": longitude, "river": river, "river_km": river_km}
    contact = {"last_time": NOW - 60, "online": True, "latest": latest}
    return {"id": name, "name": {"vi": vi, "en": en}, **place, **contact, "thresholds": [rice, mango], "alert": None}


def overview() -> Json:
    stations = [
        station("vam-kenh", "Vàm Kênh", "Vam Kenh", 10.274, 106.737, "Cửa Tiểu", 2.0),
        station("hoa-binh", "Hòa Bình", "Hoa Binh", 10.2903, 106.5924, "Cửa Tiểu", 20.0),
        station("xuan-hoa", "Cống Xuân Hòa", "Xuan Hoa sluice", 10.3366, 106.4103, "Sông Tiền", 42.0),
        station("my-tho", "Mỹ Tho (vườn Lạc Hồng)", "My Tho (Lac Hong garden)", 10.3469, 106.347, "Sông Tiền", 49.0),
    ]
    hoa_binh, xuan_hoa, my_tho = stations[1:]
    hoa_binh["latest"][0]["flag"] = 3
    xuan_hoa["alert"] = {"rule": "rice-salinity", "since": NOW - 2 * 3600, "value": 1.04, "severity": "warning"}
    my_tho |= {"online": False, "last_time": NOW - 5 * 3600}
    for entry in my_tho["latest"]:
        entry["time"] = NOW - 5 * 3600
    name = "Sông Tiền – mạng thử nghiệm"
    return {"now": NOW, "timezone": "Asia/Ho_Chi_Minh", "name": name, "stations": stations}


def series(station_id: str, river_km: float, from_s: int, to_s: int) -> Json:
    """Two days at five minutes, with a gap of three hours, one suspect and one failed value."""
    first = -(-from_s // INTERVAL_S) * INTERVAL_S
    times = [time for time in range(first, min(to_s, NOW) + 1, INTERVAL_S) if not GAP[0] < time < GAP[1]]
    values: list[float | None] = [salinity_at(river_km, time) for time in times]
    flags = [1] * len(times)
    if len(times) > 200:
        flags[-60], flags[-61], flags[60] = 3, 3, 4
        values[60] = 39.9
    shape = {"station": station_id, "parameter": "salinity", "unit": "g/L", "sensor": 1}
    return {**shape, "times": times, "values": values, "flags": flags}


STOP = (" Đừng lấy nước vào ruộng.", " Do not take in water.", " Dung lay nuoc.")
RAISED = (
    "Cống Xuân Hòa: mặn {}, vượt ngưỡng của trạm cho lúa.{}",
    "Xuan Hoa sluice: salinity {}, above the station threshold for rice.{}",
    "TRAM: Cong Xuan Hoa man {}, vuot nguong cua tram cho lua.{}",
)
CLEARED = (
    "Cống Xuân Hòa: mặn còn {}, đã xuống dưới ngưỡng của trạm cho lúa.",
    "Xuan Hoa sluice: salinity down to {}, below the station threshold for rice.",
    "TRAM: Cong Xuan Hoa man con {}, da duoi nguong cua tram cho lua.",
)


def alert(number: int, kind: str, ago_s: int, figure: float, *, sent: bool = True) -> Json:
    raised = kind == "raised"
    figures = (f"{figure} g/L".replace(".", ","), f"{figure} g/L", f"{figure} g/L".replace(".", ","))
    vi, en, sms = (text.format(*each) for text, *each in zip(RAISED if raised else CLEARED, figures, STOP, strict=True))
    delivery: Json = {"person": "ba-tu", "channel": "sms", "address_masked": "+84******123", "text": sms}
    if sent:
        delivery |= {"status": "sent", "attempts": 1, "sent_at": NOW - ago_s + 12, "provider_id": f"P-{number}"}
    else:
        delivery |= {"status": "pending", "attempts": 3, "sent_at": None, "provider_id": None}
    event: Json = {
        "id": f"event-{number}",
        "rule": "rice-salinity",
        "station": "xuan-hoa",
        "kind": kind,
        "value": figure,
    }
    event |= {"time": NOW - ago_s, "decided": NOW - ago_s + 5, "threshold": 1.0 if raised else 0.8}
    return {**event, "text": {"vi": vi, "en": en}, "deliveries": [delivery]}


def alerts() -> list[Json]:
    return [
        alert(3, "raised", 7200, 1.04, sent=False),
        alert(2, "cleared", 40000, 0.78),
        alert(1, "raised", 62000, 1.01),
    ]


def bench_state() -> Json:
    names = ["link", "broker", "gateway", "board:vam-kenh", "board:hoa-binh", "board:xuan-hoa", "board:my-tho"]
    counts = [
        {"id": name.partition(":")[2], "made": 812, "buffered": 12, "stored": 800, "missing": 12, "duplicates": 0}
        for name in names[3:]
    ]
    totals = {"made": 3248, "buffered": 48, "stored": 3200, "lost": 0, "duplicated": 0, "equal": False}
    sms = {"to": "+84900000123", "text": alerts()[0]["deliveries"][0]["text"], "received_at": NOW - 7180}
    plugs = {name: {"out": False} for name in names}
    bench = {"now": NOW, "rate": 60.0, "broker": "mosquitto", "plugs": plugs}
    return {**bench, "stations": counts, "totals": totals, "inbox": [sms]}


@dataclass
class Script:
    """What the service answers; a test changes it between two looks at the page."""

    overview: Json = field(default_factory=overview)
    alerts: list[Json] = field(default_factory=alerts)
    bench: Json | None = None
    away: bool = False
    plugs_pulled: list[tuple[str, bool]] = field(default_factory=list)

    def answer(self, path: str, query: dict[str, list[str]]) -> Json | None:
        """The JSON at a path of the API, None when there is no such thing."""
        match path.strip("/").split("/"):
            case ["api", "v1", "overview"]:
                return self.overview
            case ["api", "v1", "alerts"]:
                return {"alerts": self.alerts[: int(query["limit"][0])]}
            case ["api", "v1", "stations", station_id, "series", "salinity"]:
                found = [each for each in self.overview["stations"] if each["id"] == station_id]
                return (
                    series(station_id, found[0]["river_km"], int(query["from"][0]), int(query["to"][0]))
                    if found
                    else None
                )
            case ["bench", "state"]:
                return self.bench
        return None

    def plug(self, name: str, out: bool) -> None:
        assert self.bench is not None
        self.plugs_pulled.append((name, out))
        self.bench["plugs"][name] = {"out": out}


class Handler(BaseHTTPRequestHandler):
    """Answers from the script, then from the files."""

    def __init__(self, script: Script, *arguments: Any) -> None:
        self.script = script
        super().__init__(*arguments)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.startswith(("/api/", "/bench/state")):
            if self.script.away:
                return self.reply(HTTPStatus.SERVICE_UNAVAILABLE, "application/json", b"{}")
            answer = self.script.answer(unquote(url.path), parse_qs(url.query))
            status = HTTPStatus.OK if answer is not None else HTTPStatus.NOT_FOUND
            return self.reply(status, "application/json", json.dumps(answer).encode())
        return self.page(url.path.removeprefix("/") or "index.html")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.script.plug(unquote(self.path.removeprefix("/bench/plugs/")), body["out"])
        self.reply(HTTPStatus.OK, "application/json", b"{}")

    def page(self, name: str) -> None:
        folder, name = (BENCH_PAGES, name.removeprefix("bench/")) if name.startswith("bench/") else (PAGES, name)
        file = folder / Path(name).name
        if not file.is_file():
            return self.reply(HTTPStatus.NOT_FOUND, "text/plain", b"no such page")
        content = file.read_bytes()
        if file.name == "index.html" and self.script.bench is not None:
            content = content.replace(b"</body>", b'<script type="module" src="/bench/panel.js"></script></body>')
        return self.reply(HTTPStatus.OK, mimetypes.guess_type(file.name)[0] or "text/plain", content)

    def reply(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.send_header("content-security-policy", CONTENT_SECURITY_POLICY)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (the base class names it so)
        """Tests read the page, not an access log."""


@contextmanager
def page_service(script: Script, port: int = 0) -> Iterator[str]:
    """Serve the page and the script on 127.0.0.1; yields the page's address."""
    with ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, script)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":
    with page_service(Script(bench=bench_state()), port=8601) as address:
        print(address, flush=True)  # noqa: T201
        threading.Event().wait()
