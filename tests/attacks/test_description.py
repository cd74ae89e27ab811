"""The endpoint for programs keeps what its description says, whatever the description allows or forbids."""

from collections import Counter

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.attacks.strangers import figure, ready
from tests.browser.visits import serving

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # of schemathesis and hypothesis
EXAMPLES = 40  # of each operation, in each mode
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
QUIET = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("described"), "--model", "builtin") as served:
        yield ready(served)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_answers_are_as_described(served, example_photo, record_property, mode):
    schema = schemathesis.openapi.from_url(f"{served.address}/api/v1/openapi.json")
    photo, statuses = example_photo.read_bytes(), Counter()
    with requests.Session() as session:
        session.trust_env = False
        for result in schema.get_all_operations():
            operation = result.ok()
            if mode is schemathesis.GenerationMode.NEGATIVE and operation.method != "post":
                continue  # a path that is wrong is another path

            @QUIET
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case):
                if isinstance(case.body, dict) and "photo" in case.body and sum(statuses.values()) % 2:
                    case.body = {**case.body, "photo": photo}
                answer = case.call_and_validate(session=session, checks=CHECKS, timeout=120)
                statuses[answer.status_code] += 1

            ask()
    figure(record_property, "description", mode=mode.value, statuses=dict(sorted(statuses.items())))
    assert sum(statuses.values()) >= EXAMPLES
