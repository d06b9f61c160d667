"""Topics, batches and commit messages."""

from __future__ import annotations

import json
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_gateway import messages
from edge_gateway.slices import Series, Slice
from edge_gateway.tests.fake_station import make_record
from firmware import record

GOOD = b'{"station":"xuan-hoa","journal":305419896,"ranges":[[1,130],[140,140]]}'


def test_a_station_always_has_the_same_shard() -> None:
    shard = zlib.crc32(b"xuan-hoa") % 64

    assert messages.records_topic("gw-mytho", "xuan-hoa") == f"tram/v1/records/{shard:02x}/gw-mytho/xuan-hoa"


def test_a_batch_carries_the_records_untouched() -> None:
    raw = make_record(7) + make_record(8)

    assert record.split_batch(messages.encode_batch(Slice(Series("s", 0xAABBCCDD), 7, raw))) == (0xAABBCCDD, raw)


def test_a_commit_names_a_series_and_ranges() -> None:
    assert messages.decode_commit(GOOD) == (Series("xuan-hoa", 305419896), [(1, 130), (140, 140)])


def test_a_commit_names_messages() -> None:
    assert messages.decode_commit(b'{"messages":["a1","cmd_2-x"]}') == messages.CommittedMessages(["a1", "cmd_2-x"])


BODIES = st.dictionaries(
    st.text(max_size=8).filter(lambda key: key not in ("id", "at")),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=8)
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=5,
)


@given(
    st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True),
    st.floats(allow_nan=False, allow_infinity=False),
    BODIES,
)
def test_a_message_says_its_id_its_time_and_its_body(message_id: str, at: float, body: dict[str, object]) -> None:
    message = messages.UpMessage(message_id, "results", json.dumps(body), at)
    messages.check_message(message)

    assert json.loads(messages.encode_message(message)) == {"id": message_id, "at": at, **body}


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="no JSON"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{}", id="nothing in it"),
        pytest.param(GOOD.replace(b"305419896", b'"305419896"'), id="journal as text"),
        pytest.param(GOOD.replace(b"305419896", b"-1"), id="journal below zero"),
        pytest.param(GOOD.replace(b"[1,130]", b"[130,1]"), id="range backward"),
        pytest.param(GOOD.replace(b"[1,130]", b"[1]"), id="half a range"),
        pytest.param(GOOD.replace(b"130", b"99999999999"), id="beyond 32 bits"),
        pytest.param(GOOD.replace(b"130", b"130.5"), id="no whole number"),
        pytest.param(GOOD.replace(b"130", b"true"), id="no number"),
        pytest.param(GOOD.replace(b"xuan-hoa", b"Xu\xc3\xa2n H\xc3\xb2a"), id="no station id"),
        pytest.param(b'{"messages":"abc"}', id="messages as text"),
        pytest.param(b'{"messages":[1]}', id="a number as id"),
        pytest.param(b'{"messages":["a b"]}', id="no message id"),
        pytest.param(b'{"station":"a","journal":1,"ranges":[' + b"[1,1]," * 200_000 + b"[1,1]]}", id="too long"),
    ],
)
def test_a_message_that_is_no_commit_is_refused_whole(payload: bytes) -> None:
    with pytest.raises(messages.CommitFault):
        messages.decode_commit(payload)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reading_of_commits(payload: bytes) -> None:
    with suppress(messages.CommitFault):
        messages.decode_commit(payload)
