"""Secrets, in any form in which they may be printed."""

from __future__ import annotations

import base64
import html
import json
import re
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tap_mixpanel_parallel.fetch.redaction import _SEPARATOR, Redactor
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
    "the header without padding": lambda secret: header(secret).rstrip("="),
    "the header in a URL": lambda secret: quote(header(secret), safe=""),
    "the header in a URL's letters": lambda secret: base64.urlsafe_b64encode(
        f"bob:{secret}".encode()
    ).decode(),
    "hexadecimal": lambda secret: secret.encode().hex(),
    "hexadecimal capitals": lambda secret: secret.encode().hex().upper(),
    "quoted twice": lambda secret: quote(quote(secret, safe=""), safe=""),
    "JSON with escaped slashes": lambda secret: json.dumps(secret)[1:-1].replace("/", r"\/"),
    "JSON in escapes only": lambda secret: re.sub(
        "(....)", r"\\u\1", secret.encode("utf-16-be").hex()
    ),
}
SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="<>*"), min_size=1).map(
    str.strip  # as a setting's value is
)
DISGUISES: dict[str, Callable[[str], str]] = {
    "as it is": lambda form: form,
    "wrapped": lambda form: "\n".join(re.findall(".{1,7}", form, re.DOTALL)),
    "wrapped as in a message": lambda form: "\r\n ".join(re.findall(".{1,7}", form, re.DOTALL)),
    "folded": lambda form: " ".join(re.findall(".{1,7}", form, re.DOTALL)),
    "with a blank": lambda form: f"{form[:10]} {form[10:]}",
    "with a zero-width space": lambda form: f"{form[:10]}\u200b{form[10:]}",
    "with a joiner at each place": "\u2060".join,
    "with an escaped zero-width space": lambda form: rf"{form[:10]}\u200b{form[10:]}",
    "with an escaped line end": lambda form: rf"{form[:10]}\n{form[10:]}",
    "with a soft hyphen": lambda form: f"{form[:10]}&shy;{form[10:]}",
    "with a place to break": lambda form: f"{form[:10]}<wbr>{form[10:]}",
    "with another": lambda form: f"{form[:10]}<WBR />{form[10:]}",
    "in small letters": str.lower,
    "in capitals": str.upper,
}


def header(secret: str) -> str:
    return base64.b64encode(f"bob:{secret}".encode()).decode()


LONG = "gE+h/im&P=a55 %wort-0123'xyz"


@cache
def hides_long() -> Redactor:
    return Redactor(Credentials("bob", LONG, "1"))


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_hidden_in_disguise(form: str, disguise: str) -> None:
    redact = hides_long()
    text = DISGUISES[disguise](FORMS[form](LONG))

    assert redact(f"<{text}>") == "<***>"
    assert redact(printable(f"<{text}>")) == "<***>"


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("form", FORMS)
def test_a_piece_of_a_form_in_disguise(form: str, disguise: str) -> None:
    redact = hides_long()
    text = DISGUISES[disguise](FORMS[form](LONG)[:-5])

    assert redact(f"line 1 is 'no: {text}'") == "line 1 is 'no: ***'"


@pytest.mark.parametrize(
    "text",
    [
        "HTTP 500: internal error, request 5f2b9c0d8e7a41d6b3c2a1908f7e6d5c, please retry",
        "2025-01-06..2025-01-12: attempt 1 of 5 failed: no byte for 600 seconds (request_timeout)",
        'line 1 is no event (it is not UTF-8): {"event": "A", "properties": {}}',
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert hides_long()(text) == text


def test_short_secrets_keep_their_case() -> None:
    redact = Redactor(Credentials("bob", "Event7", "1"))
    assert redact("Event7 event7") == "*** event7"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("filler", ["\u200b", " ", "\\n", "<wbr>", "a", "\\", "&shy;"])
@pytest.mark.parametrize("secret", ["a" * 60, "\u200b" * 60, "\\n" * 30, "\\" * 60, "<wbr>" * 9])
def test_hiding_takes_little_time(secret: str, filler: str) -> None:
    redact = Redactor(Credentials("bob", secret, "1"))
    redact(filler * 5_000)
    redact(f"a{filler * 200}" * 40)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=30)
@given(secret=SECRETS.filter(bool))
def test_any_form_is_hidden(form: str, secret: str) -> None:
    redact = Redactor(Credentials("bob", secret, "1"))

    assert visible(redact(f"<{FORMS[form](secret)}>")) == "<***>"


def visible(text: str) -> str:
    """A text without what separates characters unseen, which may be left around a secret."""
    return _SEPARATOR.sub("", text)


def folded(text: str) -> str:
    """As an error puts an answer into one line, and escapes what is no text."""
    return printable(" ".join(text.split()))


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=30)
@given(secret=SECRETS.filter(bool))
@example(secret="a  b\tc")
@example(secret="\x1b[31m\u202e")
def test_any_form_is_hidden_once_it_is_folded(form: str, secret: str) -> None:
    redact = Redactor(Credentials("bob", secret, "1"))

    shown = redact(folded(f"<{FORMS[form](secret)}>"))
    assert visible(shown) in {"<***>", "<>"}
    assert "<>" not in visible(shown) or not visible(secret)


def test_a_project_secret_is_the_secret() -> None:
    redact = Redactor(Credentials("s3cret", "", None))

    header = base64.b64encode(b"s3cret:").decode()
    assert redact(f"bad s3cret in {header}") == "bad *** in ***"


def test_without_credentials_nothing_is_hidden() -> None:
    assert Redactor(None)("bob") == "bob"


@pytest.mark.parametrize("size", range(5, 12))
def test_a_piece_at_which_the_text_is_cut(size: int) -> None:
    redact = Redactor(Credentials("bob", "s3cr3t-p4ss/w", "1"))

    assert redact(f"line 1 is 'no: {'s3cr3t-p4ss/w'[:size]}'") == "line 1 is 'no: ***'"
    assert redact("line 1 is 'no: s3cr'") == "line 1 is 'no: s3cr'"
