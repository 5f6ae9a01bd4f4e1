"""Secrets, in any form in which they may be printed."""

from __future__ import annotations

import base64
import html
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tap_mixpanel_parallel.fetch.redaction import Redactor
from tap_mixpanel_parallel.settings.credentials import Credentials
from tap_mixpanel_parallel.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable

FORMS: dict[str, Callable[[str], str]] = {
    "plain": lambda secret: secret,
    "quoted": lambda secret: quote(secret, safe=""),
    "quoted as a path": quote,
    "quoted as a form": quote_plus,
    "JSON": lambda secret: json.dumps(secret)[1:-1],
    "JSON as UTF-8": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "Python": lambda secret: repr(secret)[1:-1],
    "HTML": html.escape,
    "quoted in small letters": lambda secret: re.sub("%..", lambda c: c[0].lower(), quote(secret)),
    "the header in Latin-1": lambda secret: base64.b64encode(
        f"bob:{secret}".encode("latin-1", "replace")
    ).decode(),
    "the secret in base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "the header": lambda secret: base64.b64encode(f"bob:{secret}".encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
@given(secret=st.text(st.characters(codec="utf-8", exclude_characters="<>*"), min_size=1))
def test_any_form_is_hidden(form: str, secret: str) -> None:
    redact = Redactor(Credentials("bob", secret, "1"))

    assert redact(f"<{FORMS[form](secret)}>") == "<***>"


def folded(text: str) -> str:
    """As an error puts an answer into one line, and escapes what is no text."""
    return printable(" ".join(text.split()))


@pytest.mark.parametrize("form", FORMS)
@given(secret=st.text(st.characters(codec="utf-8", exclude_characters="<>*"), min_size=1))
@example(secret="s3cret\n")
@example(secret="a  b\tc")
@example(secret="\x1b[31m\u202e")
def test_any_form_is_hidden_once_it_is_folded(form: str, secret: str) -> None:
    redact = Redactor(Credentials("bob", secret, "1"))

    shown = redact(folded(f"<{FORMS[form](secret)}>"))
    assert shown.replace(" ", "") in {"<***>", "<>"}
    assert "<>" not in shown or not secret.split()


def test_a_project_secret_is_the_secret() -> None:
    redact = Redactor(Credentials("s3cret", "", None))

    header = base64.b64encode(b"s3cret:").decode()
    assert redact(f"bad s3cret in {header}") == "bad *** in ***"


def test_without_credentials_nothing_is_hidden() -> None:
    assert Redactor(None)("bob") == "bob"


@pytest.mark.parametrize("size", range(5, 12))
def test_a_piece_at_which_the_text_is_cut(size: int) -> None:
    redact = Redactor(Credentials("bob", "s3cr3t-p4ss/w", "1"))

    assert redact(f"line 1 is 'no: {'s3cr3t-p4ss/w'[:size]}'") == "line 1 is 'no: ***"
    assert redact("line 1 is 'no: s3cr'") == "line 1 is 'no: s3cr'"
