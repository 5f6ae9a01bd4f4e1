"""The tests; their folders mirror the package's."""

import pytest

# So that a failed `assert` in a helper shows its values, as one in a test does.
pytest.register_assert_rewrite("tests.support")
