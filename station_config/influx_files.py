"""Configuration files of an InfluxDB 1.x and of the nginx before it, which gives it the writing of 1.8 and later.

`influxdb/influxdb-1.x-nginx.conf` is what an operator includes; with `influxd.conf` and `nginx.conf` beside it the same
runs for tests, chaos and fleets, on ports of their own.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).with_name("influxdb")


def write_influxd(folder: Path, http: int, rpc: int) -> Path:
    """Write influxd.conf of a server that keeps all in this folder and listens on these ports of this machine."""
    return _write(folder / "influxd.conf", _template("influxd.conf").format(folder=folder, http=http, rpc=rpc))


def write_nginx(folder: Path, http: int, front: int) -> Path:
    """Write nginx.conf of a proxy on port `front` before the server on port `http`, both of this machine."""
    proxy = _template("influxdb-1.x-nginx.conf").replace("127.0.0.1:8086", f"127.0.0.1:{http}")
    _write(folder / "proxy.conf", proxy.replace("127.0.0.1:8087", f"127.0.0.1:{front}"))
    return _write(folder / "nginx.conf", _template("nginx.conf").format(folder=folder))


def _template(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
