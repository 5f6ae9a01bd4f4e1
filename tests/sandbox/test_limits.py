"""The rate limits, counted with a clock that the test sets."""

from __future__ import annotations

import json

import pytest

from tap_mixpanel_parallel.sandbox import (
    Limits,
)
from tap_mixpanel_parallel.sandbox.answers import RefusedError
from tap_mixpanel_parallel.sandbox.limits import Gate


class TestLimits:
    @staticmethod
    def refusal(gate: Gate) -> tuple[str, dict[str, str]]:
        with pytest.raises(RefusedError) as refused:
            gate.enter()
        assert refused.value.answer.status == 429
        return json.loads(refused.value.answer.body)["error"], dict(refused.value.answer.headers)

    def test_each_limit(self) -> None:
        now = 0.0
        gate = Gate(Limits(per_hour=4, per_second=2, concurrent=3, clock=lambda: now), "1")
        gate.enter()
        gate.enter()
        assert "3/2 queries running in the last second" in self.refusal(gate)[0]
        now = 1.0
        gate.enter()
        message, headers = self.refusal(gate)
        assert message == "too many export requests in progress for this project"
        assert headers == {}
        gate.leave()
        gate.enter()
        gate.leave()
        now = 3599.9
        message, _ = self.refusal(gate)
        assert (
            "3/3 queries running concurrently and 5/4 queries running in the last hour" in message
        )
        now = 3600.0
        gate.enter()

    def test_retry_after(self) -> None:
        now = 0.0
        gate = Gate(Limits(per_hour=1, retry_after=True, clock=lambda: now), "1")
        gate.enter()
        now = 99.5
        assert self.refusal(gate)[1] == {"Retry-After": "3501"}

    def test_no_limits(self) -> None:
        gate = Gate(None, "1")
        for _ in range(1000):
            gate.enter()
