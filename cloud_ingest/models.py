"""What the HTTP API answers, as types: /openapi.json is made of these. Times are unix seconds UTC, flags QARTOD's."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

Range = tuple[int, int]


class Refusal(BaseModel):
    """Why a question is not answered: in words, or one entry for each parameter that is wrong."""

    detail: str | list[dict[str, Any]]


class Label(BaseModel):
    """One text in both languages."""

    vi: str
    en: str


class LatestValue(BaseModel):
    """The newest value of one parameter of one sensor."""

    sensor: int
    parameter: str
    value: float | None
    unit: str | None
    flag: int
    time: int
    decimals: int
    label: Label


class StationThreshold(BaseModel):
    """A station threshold of salinity in g/L: an alert is raised at `set` and cleared at `clear`."""

    id: str
    crop: Label
    set: float
    clear: float


class ActiveAlert(BaseModel):
    """An alert that is raised and not cleared."""

    rule: str
    since: int
    value: float
    severity: str


class StationOverview(BaseModel):
    """A station with its newest values."""

    id: str
    name: Label
    latitude: float
    longitude: float
    river: str
    river_km: float
    last_time: int | None
    online: bool
    latest: list[LatestValue]
    thresholds: list[StationThreshold]
    alert: ActiveAlert | None


class Overview(BaseModel):
    """All stations of the network."""

    now: int
    timezone: str
    name: str
    stations: list[StationOverview]


class Series(BaseModel):
    """One parameter of one sensor over time; of more than `limit` points the extremes of equal runs are kept.

    `failed` has for each point the tests that objected (layer flagged), `calibrations` the record that made each value
    (layer calibrated; 0: the count itself).
    """

    station: str
    parameter: str
    unit: str | None
    sensor: int
    layer: Literal["raw", "calibrated", "flagged"]
    thinned: bool = Field(description="points were left out: ask for less time, or with a higher limit")
    times: list[int]
    values: list[float | None]
    flags: list[int]
    failed: list[list[str]] = []
    calibrations: list[int] = []


class SeveralSeries(BaseModel):
    """Several series over the same time, in the order they were asked for."""

    series: list[Series]


class AggregateBucket(BaseModel):
    """What start < time <= end comes to; `n` counts all rows, of whatever flag. Null: cannot be said."""

    start: int
    end: int
    n: int
    n_usable: int
    percent_good: float = Field(description="rows of flag 1 of all rows")
    mean: float | None = Field(description="of a wind direction that of the mean vector")
    minimum: float | None
    maximum: float | None
    sum: float | None = Field(description="rain, from a counter's increments; each belongs to where it ends")
    vector_speed: float | None = Field(description="of a wind direction: the length of the mean vector, in m/s")
    expected: int | None = Field(description="rows by the record interval, until now; null: no such station")
    completeness: float | None = Field(description="per cent")


class Aggregates(BaseModel):
    """One parameter of one sensor by spans of local time; spans without a row are not there."""

    station: str
    parameter: str
    unit: str | None
    sensor: int
    by: Literal["minute", "hour", "day", "month"]
    timezone: str
    usable_flags: list[int]
    buckets: list[AggregateBucket]


class NewestValue(BaseModel):
    """The newest value of a series; a parameter the vocabulary lacks has its code for a name, and no value."""

    station: str
    sensor: int
    parameter: str
    unit: str | None
    time: int
    value: float | None
    flag: int
    failed: list[str]


class SeriesCompleteness(BaseModel):
    """How much of what a series should have had has come in whole local days, until now."""

    station: str
    sensor: int
    parameter: str
    expected: int | None
    came: int
    usable: int
    percent: float | None


class Completeness(BaseModel):
    """Every series that ever had a value, from the moment `start` to `end`."""

    start: int
    end: int
    timezone: str
    series: list[SeriesCompleteness]


class RecordRow(BaseModel):
    """A record as the station made it. `stamped_time` is its true time, null while the board's clock is unknown."""

    journal: int
    seq: int
    time: int
    count: int
    sensor: int
    parameter: int
    flag: int
    stamped_time: int | None


class Records(BaseModel):
    """Records in order of seq; ask again with after_seq = next_after_seq, until `records` is empty."""

    records: list[RecordRow]
    next_after_seq: int


class DeclaredLoss(BaseModel):
    """Numbers that are missing because a gateway lost them or never got them; `at` by the gateway's clock."""

    first: int
    last: int
    reason: str
    gateway: str
    at: int


class JournalLedger(BaseModel):
    """What arrived of one journal. `missing` is neither stored nor set aside; of it `declared_lost` is explained."""

    station: str
    journal: int
    ranges: list[Range]
    stored: int
    duplicates_received: int
    conflicts: int
    set_aside: int
    missing: list[Range]
    declared_lost: list[DeclaredLoss]


class Delivery(BaseModel):
    """One message to one person."""

    person: str
    channel: str
    address_masked: str
    text: str
    status: str
    attempts: int
    sent_at: int | None
    provider_id: str | None
    detail: str | None = None
    via: str | None = Field(default=None, description="the gateway that told the person, while the cloud was away")


class Versions(BaseModel):
    """The files a gateway decided by: the first digits of their SHA-256."""

    rules: str | None = None
    recipients: str | None = None


class Alert(BaseModel):
    """A rule was raised or cleared at a station: `time` by the observations, `decided` when we knew."""

    id: str
    rule: str
    station: str
    kind: Literal["raised", "cleared"]
    time: int
    decided: int
    value: float
    threshold: float
    severity: str
    reason: str
    text: Label
    deliveries: list[Delivery]
    via: str | None = Field(default=None, description="the gateway that decided it, while the cloud was away")
    versions: Versions = Versions()


class Alerts(BaseModel):
    """The newest alerts first."""

    alerts: list[Alert]


class Worker(BaseModel):
    """What a process that takes records in said of itself last."""

    name: str
    shards: str
    said_at: int
    lag_s: float = Field(description="how long the oldest message has been waiting to be stored")
    messages: int = Field(description="that wait")
    trouble: str


class Health(BaseModel):
    """Whether ingest works; `problems` says what does not, `warnings` what will not, in words."""

    status: Literal["ok", "failing"]
    problems: list[str]
    warnings: list[str]
    broker_connected: bool
    ingest_lag_s: float = Field(description="how long the oldest message has been waiting to be stored")
    store_writable: bool
    set_aside: int | None = Field(description="messages and records that could not be used; null: not known now")
    disk_free_bytes: int | None = Field(description="room on the disk of state_dir; null: not known now")
    workers: list[Worker] = Field(default=[], description="where others than this process take the records in")
