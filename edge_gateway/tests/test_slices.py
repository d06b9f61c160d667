from hypothesis import given
from hypothesis import strategies as st

from edge_gateway.slices import Progress, Series, Slice, without
from edge_gateway.tests.fake_station import make_record

ranges = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(whole=ranges, cuts=st.lists(ranges, max_size=6))
def test_what_remains_is_the_whole_less_every_cut(whole: tuple[int, int], cuts: list[tuple[int, int]]) -> None:
    expected = set(range(whole[0], whole[1] + 1)) - {seq for first, last in cuts for seq in range(first, last + 1)}

    remaining = without(whole, cuts)

    assert [seq for first, last in remaining for seq in range(first, last + 1)] == sorted(expected)


def test_a_part_of_a_slice_has_its_own_records() -> None:
    whole = Slice(Series("s", 1), 10, b"".join(make_record(seq) for seq in range(10, 20)))

    assert whole.part(12, 13) == Slice(Series("s", 1), 12, make_record(12) + make_record(13))


@given(through=st.integers(0, 30), settled=st.lists(ranges, max_size=6), asked=ranges)
def test_progress_is_what_is_settled_from_the_cursor_on_and_beyond(
    through: int, settled: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    numbers = set(range(through + 1)) | {seq for first, last in settled for seq in range(first, last + 1)}

    progress = Progress(through).having(*settled)

    assert set(range(progress.through + 1)) <= numbers
    assert progress.through + 1 not in numbers
    assert {seq for first, last in progress.ahead for seq in range(first, last + 1)} == {
        seq for seq in numbers if seq > progress.through
    }
    assert {seq for first, last in progress.missing(*asked) for seq in range(first, last + 1)} == {
        seq for seq in range(asked[0], asked[1] + 1) if seq not in numbers
    }
