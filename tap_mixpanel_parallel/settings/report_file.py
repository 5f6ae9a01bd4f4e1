"""The file of the run report: whether it can be written, and how it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

BEGINNING: Final = b"<!doctype html>"
"""What a report begins with: a file that begins otherwise is not overwritten."""


def report_problem(path: Path) -> str | None:
    """What keeps a report from being written; None if nothing does.

    Args:
        path: The file.
    """
    try:
        if path.exists():
            if not path.is_file():
                return "is not a file; give the path of an HTML file"
            with path.open("rb") as file:
                start = file.read(len(BEGINNING))
            if start and start.lower() != BEGINNING:
                return "exists and is not a report; remove the file, or give another path"
        write_report(path, None)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return f"can't be written ({reason}); give a path in a folder that exists and is writable"
    return None


def write_report(path: Path, text: str | None) -> None:
    """Write a report; whoever reads the file finds the old one, or all of the new one.

    Args:
        path: The file.
        text: The report; None leaves the file as it is, and only tries.

    Raises:
        OSError: If it can't be written.
        ValueError: If the path can't be one.
    """
    target = path.resolve()  # a link stays a link
    if target.name == "":
        raise ValueError("it is a folder")
    passing = target.with_name(f".report-{os.getpid()}.tmp")
    try:
        # Not as a private file: others may read a report, as far as the umask lets them.
        with passing.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text or "")
        if text is not None:
            passing.replace(target)
    finally:
        passing.unlink(missing_ok=True)
