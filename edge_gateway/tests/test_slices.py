from hypothesis import given
from hypothesis import strategies as st

from edge_gateway.slices import Series, Slice, without
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
