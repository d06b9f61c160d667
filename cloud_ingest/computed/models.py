"""Computed quantities as the HTTP API answers them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class ComputedInput(BaseModel):
    """A series that the quantity is made of."""

    sensor: int
    parameter: str
    unit: str | None
    use: str


class QualityClass(BaseModel):
    """The class a value belongs to."""

    vi: str
    en: str
    colour: str


class ComputedValue(BaseModel):
    """The quantity over start < time <= end; null with the reason in words."""

    start: int
    end: int
    value: float | None
    parts: dict[str, float | None] = Field(
        description="sub-indices of an index; the heaviest ten minutes of rain; the days of a month"
    )
    inputs: dict[str, float] = Field(description="what the value was computed from")
    quality_class: QualityClass | None
    reason: str | None


class Computed(BaseModel):
    """A quantity computed from sums over local time when it is asked for; spans without any input are not there."""

    station: str
    quantity: str
    unit: str
    by: Literal["minute", "hour", "day", "month"]
    timezone: str
    method: str
    source: str = Field(description="the paper or decision that defines it, and from when it is in force")
    demands: str = Field(description="how complete the inputs have to be")
    inputs: list[ComputedInput]
    values: list[ComputedValue]
    partial: bool = Field(description="not the whole of what the source defines: never show it under that name alone")
    missing: dict[str, list[str]] = Field(
        description="by group, what the source wants and the station does not measure"
    )
    resolution: float | None = Field(description="the least step of the value, where it is known: one tip of a bucket")
