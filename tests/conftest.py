"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# The same examples in every run, however long a busy machine takes for one.
settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")
