"""Topics, and the document that describes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from cloud_ingest import topics
from cloud_ingest.errors import TopicError
from cloud_ingest.tests.field import records_topic

ASYNCAPI = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"


def test_origin_of_a_batch() -> None:
    assert topics.parse_records_topic(records_topic("xuan-hoa")) == ("gw-mytho", "xuan-hoa")


@pytest.mark.parametrize(
    ("topic", "why"),
    [
        ("tram/v1/records/00/gw", "expected"),
        ("tram/v1/other/00/gw/xuan-hoa", "expected"),
        ("tram/v1/records/00/GW/xuan-hoa", "gateway 'GW'"),
        ("tram/v1/records/00/gw/xuân-hòa", "station 'xuân-hòa'"),
        ("tram/v1/records/zz/gw/xuan-hoa", "belongs to shard"),
    ],
)
def test_other_topics_are_refused(topic: str, why: str) -> None:
    with pytest.raises(TopicError, match=why):
        topics.parse_records_topic(topic)


def test_many_ranges_make_several_commit_messages() -> None:
    ranges = [(2 * at, 2 * at) for at in range(1200)]
    messages = [json.loads(one) for one in topics.commit_messages("xuan-hoa", 7, ranges)]
    assert [len(one["ranges"]) for one in messages] == [500, 500, 200]
    assert [tuple(one) for message in messages for one in message["ranges"]] == ranges


def test_asyncapi_document_names_every_topic() -> None:
    document = yaml.safe_load(ASYNCAPI.read_text(encoding="utf-8"))
    described = {channel["address"].split("/{")[0] for channel in document["channels"].values()}
    assert described == {
        topics.RECORDS, topics.COMMITS, topics.STATUS, topics.COMMANDS, topics.RESULTS, topics.LIVE, topics.LOSSES,
        topics.WARNINGS,
    }  # fmt: skip


def test_asyncapi_references_lead_somewhere() -> None:
    document = yaml.safe_load(ASYNCAPI.read_text(encoding="utf-8"))

    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            return [node["$ref"]] if "$ref" in node else [one for value in node.values() for one in references(value)]
        return [one for value in node for one in references(value)] if isinstance(node, list) else []

    for reference in references(document):
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_live_messages_carry_the_fields_the_document_requires() -> None:
    document = yaml.safe_load(ASYNCAPI.read_text(encoding="utf-8"))
    required = document["components"]["messages"]["live"]["payload"]["required"]
    assert list(json.loads(topics.live_message(1.5, "g/L", 1, 1_771_000_020, 1))) == required
