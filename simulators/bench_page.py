"""The page of a bench run, as one self-contained HTML file with its picture in SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from simulators.fault_table import HEAD, Row, total

if TYPE_CHECKING:
    from simulators.bench_report import Run, Scenario

WIDTH, LEFT, ROW = 960, 330, 22
PLOT = 120
SMS = "#0969da"
COLOURS = {"passed": "#1a7f37", "failed": "#cf222e", "skipped": "#9a6700"}
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#1f2328}
h1{font-size:1.6em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.3em .7em;border-bottom:1px solid #d0d7de;vertical-align:top}
.n{text-align:right;font-variant-numeric:tabular-nums}pre{white-space:pre-wrap;background:#f6f8fa;padding:.7em}
.badge{color:#fff;padding:.15em .6em;border-radius:.4em}svg text{font:12px system-ui,sans-serif}
@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}pre{background:#161b22}
td,th{border-color:#30363d}svg text{fill:#e6edf3}}
"""


def page(run: Run) -> str:
    """Return the report as HTML."""
    verdict = "passed" if run.passed else "failed"
    parts = [
        f"<h1>{_badge(verdict)} Trạm test bench</h1>",
        f"<p>{_summary(run)}</p>",
        _facts(run.facts),
        _faults([one.row for one in run.scenarios if one.row]),
        "<h2>Scenarios</h2>",
        _table(
            ["scenario", "outcome", "s", "records made / lost / twice", "why"],
            [_row(one) for one in run.scenarios],
        ),
        *(_timeline(one) for one in run.scenarios if one.timeline),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Trạm test bench: '
        f"{verdict}</title><style>{STYLE}</style><body>" + "\n".join(parts) + "</body></html>\n"
    )


def _summary(run: Run) -> str:
    counts = {kind: sum(one.outcome == kind for one in run.scenarios) for kind in COLOURS}
    said = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number)
    began = run.began.astimezone()
    return f"{said or 'nothing ran'} in {run.seconds:.0f} s, begun {began:%Y-%m-%d %H:%M %Z}"


def _facts(facts: Mapping[str, Any]) -> str:
    if not facts:
        return "<p>No scenario had a bench.</p>"
    rows = [
        [
            "bench",
            escape(f"board {facts['board']}, bus {facts['bus']}, relay {facts['relay']}, broker {facts['broker']}"),
        ],
        ["speed", f"{facts['speed']:g} times real time"],
        ["brought up in", f"{facts['start_s']} s"],
    ]
    for station, flashed in facts["flashed"].items():
        started = flashed["started"]
        said = (
            f"firmware {started['version']} on {flashed['machine']}, journal {started['journal']}; "
            f"{len(flashed['written'])} files, {flashed['bytes_written']} bytes in {flashed['seconds']:.1f} s"
        )
        rows.append([f"station {escape(station)}", escape(said)])
    rows += [
        [
            f"self-test, {escape(one['what'])}",
            f"{_badge('passed' if one['passed'] else 'failed')} {escape(one['found'])}",
        ]
        for one in facts["self_test"]
    ]
    return _table(["what", "found"], rows)


def _faults(rows: list[Row]) -> str:
    if not rows:
        return ""
    cells = [[escape(cell) for cell in row.cells] for row in [*rows, total(rows)]]
    return "<h2>Faults</h2>" + _table(HEAD, cells)


def _row(one: Scenario) -> list[str]:
    accounts = one.timeline["log"]["accounts"] if one.timeline else []
    sums = [sum(account[name] for account in accounts) for name in ("made", "lost", "twice")]
    records = " / ".join(map(str, sums)) if accounts else "–"
    return [escape(one.name), _badge(one.outcome), f"{one.seconds:.1f}", records, escape(one.why.partition("\n")[0])]


def _timeline(one: Scenario) -> str:
    assert one.timeline is not None
    judged = [
        [escape(j["said"]), _badge("passed" if j["passed"] else "failed"), f"{j['at_s']:.0f}", escape(j["why"])]
        for j in one.timeline["judged"]
    ]
    accounts = [
        [escape(str(account[name])) for name in ("station", "journal", "first_seq", "last_seq", *_COUNTS)]
        for account in one.timeline["log"]["accounts"]
    ]
    return "\n".join(
        [
            f"<h2>{escape(one.name)}</h2>",
            _picture(one.timeline),
            _table(["expected", "", "at, field s", "found"], judged),
            _table(["station", "journal", "first seq", "last seq", *_COUNTS], accounts),
            f"<details><summary>what was written</summary><pre>{escape(one.timeline['script'])}</pre></details>",
        ]
    )


_COUNTS = ("made", "stored", "lost", "twice", "different")


def _picture(timeline: Mapping[str, Any]) -> str:
    """Draw faults as bars, messages and expectations as marks, values as a line, over field time."""
    log, end_s = timeline["log"], max(float(timeline["end_s"]), 1.0)
    bars = list(_bars(log["happened"], end_s))
    marks = [(f"SMS to {m['to']}", m["at_s"], m["at_s"], m["at_s"], SMS, m["text"]) for m in log["messages"]]
    marks += [
        (j["said"], j["first_s"], j["last_s"], j["at_s"], COLOURS["passed" if j["passed"] else "failed"], j["why"])
        for j in timeline["judged"]
    ]
    rows: list[str] = []
    for label, first_s, last_s in bars:
        x, width = _x(first_s, end_s), max(3.0, _x(last_s, end_s) - _x(first_s, end_s))
        rows.append(
            _labelled(len(rows), label, f'<rect x="{x:.1f}" width="{width:.1f}" y="4" height="13" fill="#bf8700"/>')
        )
    for label, first_s, last_s, at_s, colour, why in marks:
        window = (
            f'<line x1="{_x(first_s, end_s):.1f}" x2="{_x(last_s, end_s):.1f}" y1="11" y2="11" '
            f'stroke="{colour}" stroke-width="2"/>'
        )
        dot = f'<circle cx="{_x(at_s, end_s):.1f}" cy="11" r="5" fill="{colour}"/><title>{escape(why)}</title>'
        rows.append(_labelled(len(rows), label, window + dot))
    height = ROW * len(rows)
    plot, plot_height = _plot(log["values"], end_s, height)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height + plot_height + 24}" role="img" aria-label="timeline">'
        + "".join(rows)
        + plot
        + _axis(end_s, height + plot_height)
        + "</svg>"
    )


def _bars(happened: Sequence[Mapping[str, Any]], end_s: float) -> Iterator[tuple[str, float, float]]:
    for one in happened:
        if one["what"] != "began":
            continue
        injection = one["injection"]
        ended = (h["at_s"] for h in happened if h["what"] == "ended" and h["injection"] == injection)
        yield f"{injection['kind']} at {injection['target']}", one["at_s"], min(next(ended, end_s), end_s)


def _plot(values: Sequence[Mapping[str, Any]], end_s: float, top: int) -> tuple[str, int]:
    """Draw stored values of the first parameter that was looked at, and the truth behind them in grey."""
    known = [v for v in values if v["value"] is not None]
    if len(known) < 2:
        return "", 0
    first = [v for v in known if v["parameter"] == known[0]["parameter"]]
    numbers = [v[name] for v in first for name in ("value", "truth") if v[name] is not None]
    low, high = min(numbers), max(numbers)
    span = (high - low) or 1.0

    def line(name: str, colour: str) -> str:
        points = " ".join(
            f"{_x(v['at_s'], end_s):.1f},{top + PLOT - 8 - (PLOT - 20) * (v[name] - low) / span:.1f}"
            for v in first
            if v[name] is not None and 0 <= v["at_s"] <= end_s
        )
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'

    label = f"{first[0]['parameter']} {low:.3g} … {high:.3g}"
    if any(v["truth"] is not None for v in first):
        label += "; grey: the water"
    text = f'<text x="0" y="{top + PLOT / 2:.0f}">{escape(label[:44])}</text>'
    return text + line("truth", "#afb8c1") + line("value", "#0969da"), PLOT


def _axis(end_s: float, y: int) -> str:
    ticks = [end_s * part / 5 for part in range(6)]
    return "".join(
        f'<line x1="{_x(t, end_s):.1f}" x2="{_x(t, end_s):.1f}" y1="0" y2="{y}" stroke="#d0d7de" stroke-width=".7"/>'
        f'<text x="{_x(t, end_s) - 12:.1f}" y="{y + 16}">{t / 60:.1f} min</text>'
        for t in ticks
    )


def _labelled(row: int, label: str, drawn: str) -> str:
    text = label if len(label) <= 52 else label[:51] + "…"
    return f'<g transform="translate(0,{row * ROW})"><text x="0" y="15">{escape(text)}</text>{drawn}</g>'


def _x(at_s: float, end_s: float) -> float:
    return LEFT + (WIDTH - LEFT - 40) * min(max(at_s, 0.0), end_s) / end_s


def _badge(outcome: str) -> str:
    return f'<span class="badge" style="background:{COLOURS[outcome]}">{outcome}</span>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(one)}</th>" for one in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"
