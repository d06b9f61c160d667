"""Every input kept, and every one that was a finding once, is tried again each day."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from hil_tests.fuzz import corpus
from hil_tests.fuzz.growth import most_staying, objects_staying
from hil_tests.fuzz.target import Target, try_input
from hil_tests.fuzz.targets import all_targets, be_quiet

TARGETS = {target.name: target for target in all_targets()}
ROUNDS = 2
SHORT = 4  # inputs of each target are enough to see it


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = structlog.get_config()
    be_quiet()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_no_input_kept_is_a_finding(target: Target) -> None:
    for data in dict.fromkeys([*corpus.kept(target.name), *target.seeds()]):
        finding, _ = try_input(target, data)
        assert finding is None, f"{data!r}\n{finding.text}"


@pytest.mark.parametrize(("name", "regression"), [(name, one) for name in TARGETS for one in corpus.regressions(name)])
def test_what_was_a_finding_once_is_none(name: str, regression: str) -> None:
    finding, _ = try_input(TARGETS[name], corpus.regressions(name)[regression])
    assert finding is None, finding.text


def test_regressions_and_corpora_belong_to_targets() -> None:
    kept = {path.stem for path in corpus.CORPUS.glob("*.zip")} | {path.name for path in corpus.REGRESSIONS.iterdir()}
    assert kept <= TARGETS.keys()


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in corpus.CORPUS.glob("*.zip")) < corpus.BYTES_AT_MOST


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_nothing_stays_of_inputs_that_were_tried(target: Target) -> None:
    inputs = [*corpus.kept(target.name), *target.seeds()][:SHORT]
    assert objects_staying(target, inputs, ROUNDS) < most_staying(len(inputs), ROUNDS)
