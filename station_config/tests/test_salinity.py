"""Salinity against the check values of UNESCO 44, TEOS-10's gsw, and the shared vectors."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from pathlib import Path

import gsw
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from station_config.salinity import (
    CONDUCTIVITY_35_15_0_MS_CM,
    conductivity_from_25,
    conductivity_from_25_nlf,
    practical_salinity,
)

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "pss78_vectors.csv"
ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.parametrize(
    ("ratio", "t68", "pressure_dbar", "salinity"),
    [
        (1.0, 15.0, 0.0, 35.0),
        (1.2, 20.0, 2000.0, 37.245628),
        (0.65, 5.0, 1500.0, 27.995347),
        (1.888091, 40.0, 10000.0, 40.0),
    ],
)
def test_check_values_of_unesco_44(ratio: float, t68: float, pressure_dbar: float, salinity: float) -> None:
    conductivity = ratio * CONDUCTIVITY_35_15_0_MS_CM
    assert practical_salinity(conductivity, t68 / 1.00024, pressure_dbar) == pytest.approx(salinity, abs=5e-6)


@pytest.mark.parametrize("pressure_dbar", [0.0, 10.0, 100.0])
def test_agrees_with_gsw_over_all_water_we_meet(pressure_dbar: float) -> None:
    conductivity, temperature = np.meshgrid(np.linspace(0.02, 60.0, 300), np.linspace(0.0, 40.0, 81))
    ours = practical_salinity(conductivity, temperature, np.full_like(conductivity, pressure_dbar))
    np.testing.assert_allclose(ours, gsw.SP_from_C(conductivity, temperature, pressure_dbar), rtol=0, atol=1e-4)


@pytest.mark.skipif(not VECTORS.exists(), reason="the shared vectors are not beside this checkout")
def test_agrees_with_the_206_shared_vectors() -> None:
    rows = list(csv.DictReader(VECTORS.read_text(encoding="utf-8").splitlines()))
    columns = ("conductivity_mS_cm", "temperature_C_ITS90", "pressure_dbar", "SP_gsw")
    conductivity, temperature, pressure, expected = np.array([[float(row[c]) for c in columns] for row in rows]).T
    expected[np.isnan(expected)] = 0.0  # one row on purpose: a probe in air, which gsw leaves unsaid
    ours = practical_salinity(conductivity, temperature, pressure)
    assert (len(rows), float(np.abs(ours - expected).max()) < 1e-4) == (206, True)


@given(st.floats(0.0, 80.0), st.floats(-5.0, 50.0), st.floats(0.0, 1000.0))
def test_floats_and_arrays_give_the_same(conductivity: float, temperature: float, pressure: float) -> None:
    one = practical_salinity(conductivity, temperature, pressure)
    many = practical_salinity(np.array([conductivity]), np.array([temperature]), np.array([pressure]))
    assert one == pytest.approx(many[0], rel=1e-12, abs=1e-12)


@given(ANY_FLOAT, ANY_FLOAT, ANY_FLOAT)
def test_no_number_makes_it_raise(conductivity: float, temperature: float, pressure: float) -> None:
    one = practical_salinity(conductivity, temperature, pressure)
    many = practical_salinity(np.array([conductivity]), np.array([temperature]), np.array([pressure]))
    assert one == pytest.approx(many[0], rel=1e-9, nan_ok=True)


@given(st.floats(0.0, 80.0), st.floats(0.001, 5.0), st.floats(0.0, 40.0))
def test_saltier_water_never_reads_fresher(conductivity: float, more: float, temperature: float) -> None:
    assert practical_salinity(conductivity + more, temperature) >= practical_salinity(conductivity, temperature)


@pytest.mark.parametrize(
    ("case", "conductivity", "temperature", "salinity"),
    [
        ("probe in air", 0.0, 28.0, 0.0),
        ("noise around zero", -0.01, 28.0, 0.0),
        ("no conductivity", math.nan, 28.0, math.nan),
        ("no temperature", 7.0, math.nan, math.nan),
        ("a temperature no water has", 7.0, 85.0, math.nan),
    ],
)
def test_edges(case: str, conductivity: float, temperature: float, salinity: float) -> None:
    assert practical_salinity(conductivity, temperature) == pytest.approx(salinity, nan_ok=True), case


@pytest.mark.parametrize("c25_and_salinity", [(0.519, 0.25), (1.969, 1.0), (7.277, 4.0), (32.09, 20.0)])
def test_compensated_conductivity_is_undone(c25_and_salinity: tuple[float, float]) -> None:
    conductivity_25, salinity = c25_and_salinity
    assert practical_salinity(conductivity_from_25(conductivity_25, 25.0, 0.0191), 25.0) == pytest.approx(
        salinity, rel=2e-3
    )


@pytest.mark.parametrize(
    ("temperature", "factor"), [(10.0, 1.428), (25.0, 1.0), (28.0, 0.940), (30.5, 0.8945), (35.0, 0.822)]
)
def test_nlf_table_of_iso_7888(temperature: float, factor: float) -> None:
    one = conductivity_from_25_nlf(1.0, temperature)
    many = conductivity_from_25_nlf(np.array([1.0]), np.array([temperature]))
    assert (1.0 / one, 1.0 / float(many[0])) == pytest.approx((factor, factor))


@pytest.mark.parametrize("temperature", [-1.0, 36.0, math.nan])
def test_nlf_says_nothing_outside_its_table(temperature: float) -> None:
    assert math.isnan(conductivity_from_25_nlf(1.0, temperature))


def test_floats_need_no_numpy() -> None:
    program = (
        "import sys; sys.modules['numpy'] = None\n"
        "from station_config.derive import SensorContext, derive\n"
        "print(round(derive({'conductivity': 7.0, 'water_temperature': 28.0}, SensorContext())['salinity'], 3))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(round(practical_salinity(7.0, 28.0), 3))
