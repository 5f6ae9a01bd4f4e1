"""`executor: dask`: what it needs, before anything is asked of anybody."""

from __future__ import annotations

import json
import tempfile
from typing import TYPE_CHECKING, Any, Final

import pytest

from tap_mixpanel_parallel.settings.machines import Machines
from tests.settings.harness import problems, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ADDRESS: Final = "tcp://127.0.0.1:8786"
DASK: Final[dict[str, Any]] = {
    "executor": "dask",
    "dask_scheduler": ADDRESS,
    "batch_config": {
        "encoding": {"format": "jsonl"},
        "storage": {"root": tempfile.gettempdir()},
    },
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Files for `dask_tls`, which nobody reads here."""
    paths = {name: tmp_path / name for name in ("ca_file", "cert_file", "key_file")}
    for path in paths.values():
        path.touch()
    return {name: str(path) for name, path in paths.items()}


def test_an_address_or_the_file_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text('{"address": "tls://10.0.0.1:8786"}')
    by_address, by_file = (read(**DASK | {"dask_scheduler": s}) for s in (ADDRESS, str(path)))
    assert by_address.machines == Machines(ADDRESS)
    assert by_file.machines == Machines(str(path))
    assert by_file.machines.is_file
    assert not by_address.warnings


def test_one_machine_needs_none_of_it() -> None:
    assert read().machines is None
    settings = read(dask_scheduler=ADDRESS)
    assert settings.machines is None
    assert settings.warnings == ("dask_scheduler: has no effect without executor: dask",)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"batch_config": ...}, "executor: 'dask' needs batch_config"),
        ({"dask_scheduler": ...}, "dask_scheduler: is missing"),
        ({"dask_scheduler": "scheduler:8786"}, "dask_scheduler: 'scheduler:8786' is neither"),
        ({"dask_scheduler": "/no/such/file"}, "(No such file or directory)"),
        ({"dask_scheduler": __file__}, "(it has no address in JSON)"),
        ({"executor": "ray"}, "executor: 'ray'"),
        ({"dask_tls": {"ca_file": "x"}}, "give all three"),
        ({"dask_tls": dict.fromkeys(("ca_file", "cert_file", "key_file"), "/no")}, "'/no' is not"),
    ],
)
def test_what_is_not_valid_has_one_problem(change: dict[str, Any], found: str) -> None:
    texts = [text for text in problems(**DASK | change) if "not encrypted" not in text]
    assert found in texts[0]
    assert len(texts) == 1 or "dask_tls" in change


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tap_mixpanel_parallel.settings.machines.find_spec", lambda _: None)
    (problem,) = problems(**DASK)
    assert problem == (
        "executor: 'dask' needs distributed, which is not installed; install "
        "tap-mixpanel-parallel[dask], or give local"
    )


def test_processes_are_those_of_the_workers() -> None:
    (warning,) = read(**DASK | {"processes": 2}).warnings
    assert warning == "processes: has no effect with executor: dask"


@pytest.fixture(params=["address", "file"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Gives an address as it is, or in a scheduler's file."""

    def give(address: str) -> str:
        if request.param == "address":
            return address
        path = tmp_path / "scheduler.json"
        path.write_text(json.dumps({"address": address}))
        return str(path)

    return give


def test_clear_text_is_warned_of_where_it_leaves_the_machine(given: Callable[[str], str]) -> None:
    (warning,) = read(**DASK | {"dask_scheduler": given("tcp://10.0.0.1:8786")}).warnings
    assert "clear text" in warning
    assert not read(**DASK | {"dask_scheduler": given(ADDRESS)}).warnings


def test_tls_asks_for_tls(files: dict[str, str], given: Callable[[str], str]) -> None:
    encrypted = given("tls://10.0.0.1:8786")
    settings = read(**DASK | {"dask_scheduler": encrypted, "dask_tls": files})
    assert settings.machines == Machines(encrypted, files)
    assert not settings.warnings
    plain = given(ADDRESS)
    (problem,) = problems(**DASK | {"dask_scheduler": plain, "dask_tls": files})
    names = "" if plain == ADDRESS else f"names {ADDRESS}, which "
    assert problem.startswith(f"dask_scheduler: '{plain}' {names}is not encrypted")
