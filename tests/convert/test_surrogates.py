"""Lone surrogates become U+FFFD, and nothing else is changed."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given

from tap_mixpanel_parallel.convert.surrogates import mend
from tests.support.strategies import FRAGMENTS

LONE = re.compile("[\ud800-\udfff]")


@given(FRAGMENTS)
def test_against_json(text: str) -> None:
    value = json.loads(f'"{text}"')

    mended = mend(f'"{text}"'.encode("utf-8", "surrogatepass"))

    assert json.loads(mended) == LONE.sub("\ufffd", value)
    assert mend(mended) == mended
    if LONE.search(value) is None:
        assert mended == f'"{text}"'.encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"a\ud83d", r"a\ufffd"),
        (r"\uD83D b", r"\ufffd b"),
        (r"\ude00\ud83d", r"\ufffd\ufffd"),
        (r"\ud83d\ud83d\ude00", r"\ufffd\ud83d\ude00"),
        (r"\ud83d\ude00\ude00", r"\ud83d\ude00\ufffd"),
        (r"\ud83dA\ude00", r"\ufffdA\ufffd"),
        (r"\ud83d\\ude00", r"\ufffd\\ude00"),
        (r"\\\ud83d", r"\\\ufffd"),
        (r"\\ud83d", r"\\ud83d"),
        (r"\\\\ud83d", r"\\\\ud83d"),
        (r"\ud83d\ude00", r"\ud83d\ude00"),
        (r"\uD83D\uDE00", r"\uD83D\uDE00"),
        (r"\ud7ff\ue000", r"\ud7ff\ue000"),
        ("\ud800", "\ufffd"),
        ("é\udfff🎉", "é\ufffd🎉"),
        ("\ud83d\ude00", "\ufffd\ufffd"),
    ],
)
def test_examples(text: str, expected: str) -> None:
    assert mend(text.encode("utf-8", "surrogatepass")) == expected.encode()
