"""Quality control of a file of columns, and its score where the file has flags of its own.

recall        of the values the file rejects, the share we flag (fail alone; suspect or fail)
false alarms  of the values the file calls good, the share we flag
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from cloud_ingest.column_files import ColumnMap, ColumnTable, FileColumn
from cloud_ingest.layers import local_months
from cloud_ingest.quality import Test
from cloud_ingest.quality_control import Checked, check
from firmware.record import FAIL, GOOD, NO_VALUE, NOT_EVALUATED, SUSPECT
from station_config.quality import ParameterTests, configured_tests

FLAG_NAMES = {GOOD: "good", NOT_EVALUATED: "not_evaluated", SUSPECT: "suspect", FAIL: "fail", NO_VALUE: "missing"}


def check_table(
    table: ColumnTable, column_map: ColumnMap, own: Mapping[str, ParameterTests], zone: ZoneInfo
) -> dict[str, Checked]:
    """Return the verdict on each column by its name in the file; `own` changes the default tests."""
    months = local_months(table.times, zone)
    checked: dict[str, Checked] = {}
    for sensor in sorted({column.sensor for column in column_map.columns}):
        members = [column for column in column_map.columns if column.sensor == sensor]
        columns = {column.parameter: table.columns[column.name].values for column in members}
        verdicts = check(table.times, columns, lambda name: configured_tests(name, own), months)
        for column in members:
            checked[column.name] = with_syntax(verdicts[column.parameter], table.columns[column.name].unreadable)
    return checked


def with_syntax(checked: Checked, unreadable: npt.NDArray[np.bool_]) -> Checked:
    """Return the verdict with the syntax test: what stands in the file and is no number fails."""
    flag, failed = checked.flag.copy(), checked.failed.copy()
    flag[unreadable] = FAIL
    failed[unreadable] |= Test.SYNTAX
    return Checked(flag, failed, checked.by_test)


def report(table: ColumnTable, checked: Mapping[str, Checked]) -> dict[str, Any]:
    """Return what came of a file, ready for JSON."""
    return {
        "lines": table.lines,
        "used": len(table.times),
        "refused": table.refused,
        "faults": table.faults,
        "columns": {name: _column_report(table.columns[name], one) for name, one in checked.items()},
    }


def write_flags(path: Path, table: ColumnTable, checked: Mapping[str, Checked]) -> None:
    """Write one line per time: the values, their flags and the tests they did not pass. Raises OSError."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time_utc", *(part for name in checked for part in (name, f"{name}_flag", f"{name}_failed"))])
        for index, time_s in enumerate(table.times.tolist()):
            row: list[object] = [datetime.fromtimestamp(time_s, UTC).isoformat().replace("+00:00", "Z")]
            for name, one in checked.items():
                value = float(table.columns[name].values[index])
                row += [
                    "" if np.isnan(value) else f"{value:.10g}",
                    int(one.flag[index]),
                    " ".join(Test(int(one.failed[index])).names),
                ]
            writer.writerow(row)


def _column_report(column: FileColumn, checked: Checked) -> dict[str, Any]:
    flags = {text: int((checked.flag == flag).sum()) for flag, text in FLAG_NAMES.items()}
    failed = {test.name.lower(): int((checked.failed & test > 0).sum()) for test in Test if test.name}
    found: dict[str, Any] = {
        "flags": flags,
        "failed_tests": {name: number for name, number in failed.items() if number},
    }
    if column.said_good is not None and column.said_rejected is not None:
        found["score"] = score(checked.flag, column.said_good, column.said_rejected, ~np.isnan(column.values))
    return found


def score(
    flag: npt.NDArray[np.uint8],
    good: npt.NDArray[np.bool_],
    rejected: npt.NDArray[np.bool_],
    present: npt.NDArray[np.bool_],
) -> dict[str, float | int | None]:
    """Return recall and false alarms against a file's own flags, of the values that are there."""
    bad, fine = flag[rejected & present], flag[good & present]
    flagged_bad, flagged_fine = (bad == FAIL) | (bad == SUSPECT), (fine == FAIL) | (fine == SUSPECT)
    return {
        "rejected": len(bad),
        "good": len(fine),
        "recall": _share(flagged_bad),
        "recall_fail_alone": _share(bad == FAIL),
        "false_alarms": _share(flagged_fine),
        "false_alarms_fail_alone": _share(fine == FAIL),
    }


def _share(hits: npt.NDArray[np.bool_]) -> float | None:
    return round(float(hits.mean()), 5) if len(hits) else None
