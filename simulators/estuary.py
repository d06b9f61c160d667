"""The Cửa Tiểu branch of the Tiền river: tide, salt and water temperature at any moment and distance from the mouth.

    tide at the mouth -> damped and late inland -> water moves to and fro by the tidal excursion
    season -> discharge -> length of the salt wedge (Savenije's steady state) -> moved by the excursion -> salinity

Everything is a pure function of time, place and seed; times are unix seconds UTC, floats or numpy arrays. It is tuned
so that the gauges Vàm Kênh (km 2), Hòa Bình (km 20) and Xuân Hòa (km 42) show the dry-season figures published for a
dry year (daily maxima of 15 to 28, up to 14, and 1 to 5 g/L); it forecasts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from simulators.noise import Array, smooth
from station_config.salinity import practical_salinity

HOUR_S = 3600.0
DAY_S = 86400.0
LOCAL_OFFSET_S = 7 * HOUR_S  # Asia/Ho_Chi_Minh has had no other offset since 1975
SCAN_STEP_S = 60.0
_JANUARY_1_2026 = 1767225600.0
_J2000_NOON = 946728000.0


@dataclass(frozen=True)
class Place:
    """Where a station stands: distance from the mouth, height of its pressure sensor, delay in a replayed series."""

    station: str
    river_km: float
    elevation_m: float = -3.0
    shift_s: float = 0.0


@dataclass(frozen=True)
class WaterState:
    """The water itself, before any instrument: NaN where a replayed series does not know."""

    salinity: float  # practical salinity, shown to people as g/L
    conductivity_ms_cm: float  # in situ
    water_temperature_c: float
    level_m: float  # above the local datum, which is mean sea level at the mouth


@dataclass(frozen=True)
class _Constituent:
    """One part of the tide: amplitude at the mouth, phase lag, multiples of (T, s, h, p, 1 degree) in its argument."""

    amplitude_m: float
    lag_deg: float
    argument: tuple[int, int, int, int, int]
    damping_km: float


_SEMIDIURNAL_DAMPING_KM = 170.0  # M2 falls from 0.79 m to about 0.6 m at Mỹ Tho, km 46
_DIURNAL_DAMPING_KM = 260.0  # longer waves feel less friction

# Amplitudes near Vàm Kênh and Vũng Tàu; the lags refer to local time (UTC+7).
CONSTITUENTS = {
    "M2": _Constituent(0.79, 36.0, (2, -2, 2, 0, 0), _SEMIDIURNAL_DAMPING_KM),
    "S2": _Constituent(0.30, 81.0, (2, 0, 0, 0, 0), _SEMIDIURNAL_DAMPING_KM),
    "N2": _Constituent(0.17, 10.0, (2, -3, 2, 1, 0), _SEMIDIURNAL_DAMPING_KM),
    "K2": _Constituent(0.08, 81.0, (2, 0, 2, 0, 0), _SEMIDIURNAL_DAMPING_KM),
    "K1": _Constituent(0.60, 312.0, (1, 0, 1, 0, -90), _DIURNAL_DAMPING_KM),
    "O1": _Constituent(0.45, 263.0, (1, -2, 1, 0, 90), _DIURNAL_DAMPING_KM),
    "P1": _Constituent(0.19, 307.0, (1, 0, -1, 0, 90), _DIURNAL_DAMPING_KM),
}
_LAG_S_PER_KM = 0.049 * HOUR_S  # 2 to 2.5 h from the mouth to Mỹ Tho
_SLACK_LAG_S = 1.2 * HOUR_S  # high-water slack follows high water
_EXCURSION_KM_PER_M = 5.0  # 16 km for a spring range of 3 to 3.5 m
# Salt comes in patches (canals, bends, wind), so a gauge never draws the smooth curve of the tide.
_PATCH_KM = 0.4
_PATCH_PERIOD_S = 2100.0

# Mid-month discharge of the Mekong into its delta in a dry year, m3/s.
_DISCHARGE_BY_MONTH = (4200, 2500, 2000, 1900, 3200, 8000, 15000, 22000, 26000, 24000, 15000, 8000)

_BRANCH_SHARE = 0.15  # of the discharge that leaves by this branch
_CONVERGENCE_KM = 62.0  # the cross-section falls to 1/e over this distance inland
_DEPTH_M = 8.5
_MOUTH_SECTION_M2 = 2200.0 * _DEPTH_M
_EXCURSION_M = 16000.0  # a spring tide's; E0
_VELOCITY_M_S = 1.0  # v0
_VAN_DER_BURGH = 0.5  # K
_TIDE_PERIOD_S = 44712.0
_DENSITY_RATIO = 0.02
_GRAVITY = 9.80665
_SEA_SALINITY = 30.0
_RIVER_SALINITY = 0.1
_HALF_FRESH_DISCHARGE = 12000.0  # at this discharge the water before the mouth is half river water
_MEAN_SPRING_NEAP_M = 1.35
_SPRING_NEAP_MEMORY_S = 2 * DAY_S  # the salt follows the spring tides two days late


def tide_m(times: ArrayLike, river_km: float = 0.0) -> Array:
    """Return the tide above its mean in metres; spring and neap follow the moon because the arguments do."""
    late = np.asarray(times, dtype=np.float64) - river_km * _LAG_S_PER_KM
    amplitudes = {
        name: constituent.amplitude_m * np.exp(-river_km / constituent.damping_km)
        for name, constituent in CONSTITUENTS.items()
    }
    return np.asarray(sum(amplitude * np.cos(_phase(name, late)) for name, amplitude in amplitudes.items()))


def _phase(name: str, times: Array) -> Array:
    constituent = CONSTITUENTS[name]
    argument = _astronomical_argument_deg(constituent.argument, times + LOCAL_OFFSET_S)
    return np.asarray(np.radians(argument - constituent.lag_deg))


def _astronomical_argument_deg(multiples: tuple[int, int, int, int, int], times: Array) -> Array:
    """Return V from the hour angle T and the mean longitudes of moon s, sun h and the moon's perigee p (Meeus)."""
    centuries = (times - _J2000_NOON) / DAY_S / 36525.0
    hour_angle = np.mod(times / DAY_S, 1.0) * 360.0 + 180.0
    moon = 218.3164477 + 481267.88123421 * centuries
    sun = 280.46646 + 36000.76983 * centuries
    perigee = 83.3532465 + 4069.0137287 * centuries
    t, s, h, p, constant = multiples
    return np.asarray(t * hour_angle + s * moon + h * sun + p * perigee + constant)


def _spring_neap(times: Array) -> Array:
    """Return how strong the tide of these days is: 1 on average, about 1.3 at springs, 0.5 at neaps."""
    before = times - _SPRING_NEAP_MEMORY_S
    semidiurnal, diurnal = _envelope(("M2", "S2", "N2", "K2"), before), _envelope(("K1", "O1", "P1"), before)
    return np.asarray((semidiurnal + 0.5 * diurnal) / _MEAN_SPRING_NEAP_M)


def _envelope(names: tuple[str, ...], times: Array) -> Array:
    """Return the amplitude of the sum of constituents of nearly one period."""
    phases = [(CONSTITUENTS[name].amplitude_m, _phase(name, times)) for name in names]
    along = sum(amplitude * np.cos(phase) for amplitude, phase in phases)
    across = sum(amplitude * np.sin(phase) for amplitude, phase in phases)
    return np.asarray(np.hypot(along, across))


def discharge_m3_s(times: ArrayLike, seed: int) -> Array:
    """Return the Mekong's discharge into the delta: low from February to April, 26,000 in September."""
    moments = np.asarray(times, dtype=np.float64)
    day = np.mod((moments - _JANUARY_1_2026) / DAY_S, 365.25)
    middles = np.arange(12) * 30.44 + 15.0
    season = np.exp(np.interp(day, middles, np.log(_DISCHARGE_BY_MONTH), period=365.25))
    return np.asarray(season * (1.0 + 0.06 * smooth(seed, "discharge", moments, 6 * DAY_S)))


def surge_m(times: ArrayLike, seed: int) -> Array:
    """Return what the wind adds to the sea level; the north-east wind of the dry season pushes salt inland."""
    return 0.12 * smooth(seed, "surge", times, 2 * DAY_S)


def salinity(times: ArrayLike, river_km: float, seed: int, discharge: ArrayLike | None = None) -> Array:
    """Return practical salinity. `discharge` (m3/s) replaces the season's.

    Savenije's steady state at high-water slack, S = Sf + (S0 - Sf) (1 - b (exp(x/a) - 1))^(1/K) with
    b = K a Q / (D0 A0), moved along the river by the tidal excursion of the moment.
    """
    moments = np.asarray(times, dtype=np.float64)
    flow = discharge_m3_s(moments, seed) if discharge is None else np.asarray(discharge, dtype=np.float64)
    upstream_km = river_km - displacement_km(moments, river_km, seed) + _EXCURSION_M / 2000.0
    profile = 1.0 - _slope(moments, flow) * np.expm1(upstream_km / _CONVERGENCE_KM)
    mouth = _SEA_SALINITY / (1.0 + flow / _HALF_FRESH_DISCHARGE)
    salt = _RIVER_SALINITY + (mouth - _RIVER_SALINITY) * np.maximum(profile, 0.0) ** (1.0 / _VAN_DER_BURGH)
    return np.asarray(salt)


def displacement_km(times: ArrayLike, river_km: float, seed: int) -> Array:
    """Return how far inland of its mean position the water of this place is: what the tidal prism carries."""
    moments = np.asarray(times, dtype=np.float64)
    before = moments - _SLACK_LAG_S
    patches = _PATCH_KM * smooth(seed, f"patches {river_km:g}", moments, _PATCH_PERIOD_S)
    return _EXCURSION_KM_PER_M * (tide_m(before, river_km) + surge_m(before, seed)) + patches


def _slope(times: Array, flow: Array) -> Array:
    """Return b, the strength of the river against dispersion: D0 = 1400 (h/a) sqrt(NR) v0 E0."""
    excursion = _EXCURSION_M * _spring_neap(times)
    branch = _BRANCH_SHARE * flow
    convergence_m = _CONVERGENCE_KM * 1000.0
    richardson = (
        _DENSITY_RATIO
        * _GRAVITY
        * _DEPTH_M
        * branch
        * _TIDE_PERIOD_S
        / (_MOUTH_SECTION_M2 * excursion * _VELOCITY_M_S**2)
    )
    dispersion = 1400.0 * _DEPTH_M / convergence_m * np.sqrt(richardson) * _VELOCITY_M_S * excursion
    return np.asarray(_VAN_DER_BURGH * convergence_m * branch / (dispersion * _MOUTH_SECTION_M2))


def water_temperature_c(times: ArrayLike, river_km: float, seed: int) -> Array:
    """Return water temperature: 26.5 in January, 30.5 in May, half a degree warmer in the afternoon."""
    moments = np.asarray(times, dtype=np.float64)
    day = (moments - _JANUARY_1_2026) / DAY_S
    hour = np.mod((moments + LOCAL_OFFSET_S) / HOUR_S, 24.0)
    season = (
        28.6 - 1.8 * np.cos(2.0 * np.pi * (day - 15.0) / 365.25) + 0.4 * np.sin(4.0 * np.pi * (day - 60.0) / 365.25)
    )
    daily = 0.45 * np.cos(2.0 * np.pi * (hour - 16.0) / 24.0)
    return np.asarray(season + daily - 0.01 * river_km + 0.3 * smooth(seed, "water temperature", moments, 3 * DAY_S))


def level_m(times: ArrayLike, river_km: float, seed: int) -> Array:
    """Return the water level: tide, surge, and the river's own slope, steeper in the flood season."""
    river = river_km * (0.004 + 0.018 * discharge_m3_s(times, seed) / 25000.0)
    return np.asarray(tide_m(times, river_km) + surge_m(times, seed) + river)


def conductivity_ms_cm(practical: float, temperature_c: float) -> float:
    """Return the in-situ conductivity at which PSS-78 gives this salinity (bisection; 0 for fresh water of 0)."""
    if not practical > 0.0:
        return practical * 0.0  # NaN stays NaN
    low, high = 0.0, 120.0
    for _ in range(45):
        middle = (low + high) / 2.0
        low, high = (middle, high) if practical_salinity(middle, temperature_c) < practical else (low, middle)
    return (low + high) / 2.0


@dataclass(frozen=True)
class Estuary:
    """The model as a source of truth for the instruments and for the planner."""

    seed: int = 1
    season: int = 2026  # the year whose dry season the planner looks at

    def water(self, place: Place, time: float) -> WaterState:
        """Return the state of the water at one moment."""
        salt = float(salinity(time, place.river_km, self.seed))
        temperature = float(water_temperature_c(time, place.river_km, self.seed))
        level = float(level_m(time, place.river_km, self.seed))
        return WaterState(salt, conductivity_ms_cm(salt, temperature), temperature, level)

    def salinity(self, place: Place, times: Array) -> Array:
        """Return practical salinity for many moments at once."""
        return salinity(times, place.river_km, self.seed)

    def scan_times(self, place: Place) -> Array:
        """Return every minute of the dry season, January to April, local time: where the planner may look."""
        begin, end = (np.datetime64(f"{self.season}-{month}-01", "s").astype(np.int64) for month in ("01", "05"))
        return np.arange(begin, end, SCAN_STEP_S) - LOCAL_OFFSET_S
