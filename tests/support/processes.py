"""The processes that convert for a run, as the system lists them."""

from __future__ import annotations

from pathlib import Path


def workers_of(pid: int) -> list[int]:
    """The processes that convert for a process."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            command = (path / "cmdline").read_bytes()
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if b"convert.worker" in command and parent == pid:
            found.append(int(path.name))
    return found
