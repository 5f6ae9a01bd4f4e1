"""tap-mixpanel from PyPI: a virtual environment of its own, and a run of it there.

It has no setting for the server, so this file is also what its Python runs: it sends the
exports to another URL, and answers its check of the credentials itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

VERSION: Final = "1.8.0"
_ENVIRONMENT: Final = Path(__file__).with_name(".venv-tap-mixpanel")


def install() -> Path:
    """Install it, unless it is.

    Returns:
        The Python that has it.

    Raises:
        OSError: If the environment can't be made.
        subprocess.CalledProcessError: If it can't be installed.
    """
    python = _ENVIRONMENT / "bin" / "python"
    marker = _ENVIRONMENT / VERSION
    if not marker.exists():
        venv.create(_ENVIRONMENT, clear=True, with_pip=True)
        subprocess.run(  # noqa: S603
            [python, "-m", "pip", "install", "--quiet", f"tap-mixpanel=={VERSION}"],
            check=True,
            capture_output=True,
            text=True,
        )
        marker.touch()
    return python


def command(url: str, first: date, last: date, properties: Iterable[str]) -> list[str]:
    """What to run for an export of these days, as one request.

    Args:
        url: The server's base URL.
        first: The first day.
        last: The last day.
        properties: The events' properties, which it would ask another endpoint for.
    """
    python = str(_ENVIRONMENT / "bin" / "python")
    return [python, __file__, url, str(first), str(last), *properties]


def main() -> None:
    """Run it in this process, against another server."""
    url, first, last, *properties = sys.argv[1:]
    _redirect(url)
    config = {
        "api_secret": "sandbox-project-secret:",
        "project_timezone": "UTC",
        "attribution_window": "0",
        "start_date": f"{first}T00:00:00Z",
        "end_date": f"{last}T00:00:00Z",
        "date_window_size": "3650",
        "user_agent": "benchmark",
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("config", config), ("catalog", _catalog(properties))):
            Path(folder, name).write_text(json.dumps(content))
        sys.argv[1:] = ["--config", f"{folder}/config", "--catalog", f"{folder}/catalog"]
        import_module("tap_mixpanel").main()


def _redirect(url: str) -> None:
    requests: Any = import_module("requests")
    send = requests.Session.request

    def request(session: Any, method: str, asked: str | None = None, **options: Any) -> Any:
        asked = options.pop("url", asked) or ""
        if not asked.endswith("/export"):
            answer = requests.Response()
            answer.status_code = 200
            return answer
        return send(session, method, f"{url}/export", **options)

    requests.Session.request = request


def _catalog(properties: Iterable[str]) -> dict[str, Any]:
    """Its events, with every property as the text that its own discovery makes of it."""
    folder = resources.files("tap_mixpanel")
    schema = json.loads((folder / "schemas" / "export.json").read_text())
    for name in properties:
        renamed = f"mp_reserved_{name[1:]}" if name.startswith("$") else name
        schema["properties"][renamed] = {"type": ["null", "string"]}
    breadcrumbs = [[], *(["properties", name] for name in schema["properties"])]
    stream = {
        "stream": "export",
        "tap_stream_id": "export",
        "key_properties": [],
        "schema": schema,
        "metadata": [
            {"breadcrumb": breadcrumb, "metadata": {"selected": True}} for breadcrumb in breadcrumbs
        ],
    }
    return {"streams": [stream]}


if __name__ == "__main__":
    main()
