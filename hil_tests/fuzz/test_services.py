"""Every HTTP service answers whatever it is asked as its own description says, and never with a 5xx."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from hil_tests.fuzz import services

EXAMPLES = 25
CLOUD = ("/health", "/overview", "/ledger", "/alerts", "/records", "/series", "/aggregates", "/latest", "/completeness")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with services.cloud(tmp_path_factory.mktemp("cloud")) as schema:
        yield schema


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_clouds_api(cloud: Any, mode: GenerationMode) -> None:
    asked = services.operations(cloud)
    assert all(any(part in label for label in asked) for part in CLOUD), asked.keys()
    for operation in asked.values():
        _try(operation, mode)


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_simulated_provider(mode: GenerationMode) -> None:
    for operation in services.operations(services.phone()).values():
        _try(operation, mode)


def _try(operation: Any, mode: GenerationMode) -> None:
    if mode is GenerationMode.NEGATIVE and not (operation.query or operation.path_parameters or operation.body):
        return  # nothing to get wrong

    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(mode))
    def asked(case: Any) -> None:
        services.ask(case)

    run: Callable[[], None] = asked
    run()
