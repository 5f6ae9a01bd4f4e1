"""Whatever a client sends, the sandbox answers it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import requests
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tap_mixpanel_parallel.sandbox import Project, Sandbox
from tests.sandbox.served import DAYS, NOON, RANGE, error

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ["from_date", "to_date", "event", "where", "limit", "time_in_ms", "project_id", "more"]
VALUES = st.one_of(
    st.sampled_from(["", "1", "true", "9" * 4400, "-1", "²", "2024-12-01", "2025-01-06"]),
    st.sampled_from(['["Search"]', "[", "[" * 2000, "1 < 2 and 3", "(" * 2000, "1e999 == 1"]),
    st.text(max_size=20),
)


@pytest.fixture(scope="module")
def small() -> Iterator[Sandbox]:
    project = Project(events_per_day=2, created=DAYS[0])
    with Sandbox(project, limits=None, as_of=lambda: NOON) as sandbox:
        yield sandbox


@settings(max_examples=60, phases=[Phase.explicit, Phase.generate])
@given(
    parameters=st.dictionaries(st.sampled_from(NAMES), VALUES),
    authorization=st.one_of(
        st.sampled_from(["Basic c2FuZGJveDpzYW5kYm94LXNlY3JldA==", "Basic sandbox", "Basic"]),
        st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"])).map(str.strip),
    ),
    method=st.sampled_from(["GET", "POST"]),
)
def test_any_request_has_an_answer(
    small: Sandbox, parameters: dict[str, str], authorization: str, method: str
) -> None:
    parameters = {"project_id": "1", **RANGE, **parameters}
    response = requests.request(
        method,
        f"{small.url}/export",
        **{"params" if method == "GET" else "data": parameters},
        auth=lambda request: request,  # else a .netrc could add another
        headers={"Authorization": authorization.encode("latin-1")},
        timeout=10,
    )
    if response.status_code == 200:
        found = [json.loads(line).keys() for line in response.content.splitlines()]
        assert all({"event", "error"} & keys for keys in found)
    else:
        assert response.status_code in (400, 401, 403)
        assert error(response)
