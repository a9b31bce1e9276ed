"""Requests made up from the API's own description: whatever is sent, the answer is one that the description names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from bahumukha.web.app import create_app
from bahumukha.web.config import ServerConfig
from bahumukha.zoo.fake import ColourEncoder
from tests.web.conftest import Place, serving

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
# The stream of events has no end, and what indexes would change what the other tests look at.
schema = schemathesis.openapi.from_dict(create_app(ServerConfig()).openapi()).exclude(path_regex="/events$|/folders/")
COMMON: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@pytest.fixture(scope="module")
def address(shared_place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = shared_place.config(created=tmp_path_factory.mktemp("made"), upload_bytes=1 << 20)
    with serving(create_app(config, encoder=ColourEncoder())) as address:
        yield address


@schema.parametrize()
@settings(max_examples=12, derandomize=True, **COMMON)
def test_every_answer_is_one_that_is_described(case: schemathesis.Case, address: str) -> None:
    """Random requests, and those at each boundary of each field: about twelve hundred."""
    case.call_and_validate(base_url=address, checks=CHECKS, timeout=60)


def test_what_answers_lead_to_is_described_too(address: str) -> None:
    """Requests that take their numbers and names from the answers to others: pictures that were found, jobs."""

    class Walk(schema.as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, Any]:
            return {"base_url": address, "timeout": 60}

        def validate_response(self, response: Any, case: schemathesis.Case, **kwargs: Any) -> None:
            case.validate_response(response, checks=CHECKS)

    for attempt in range(3):
        try:
            return Walk.run(settings=settings(max_examples=20, stateful_step_count=8, derandomize=True, **COMMON))
        except FlakyStrategyDefinition:  # a job was further on than when the same walk began before: no answer is wrong
            if attempt == 2:
                raise
