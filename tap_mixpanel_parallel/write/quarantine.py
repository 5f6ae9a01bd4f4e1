"""Where lines that stay bad are kept, while the rest of their window is loaded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tap_mixpanel_parallel.fetch.spool import spool_error

if TYPE_CHECKING:
    from pathlib import Path

    from tap_mixpanel_parallel.convert.conversion import Part
    from tap_mixpanel_parallel.plan.windows import Window
    from tap_mixpanel_parallel.settings.settings import Settings


class Quarantine:
    """Keeps the malformed lines of a run's windows, each window's in a file of its own."""

    def __init__(self, settings: Settings) -> None:
        """Keep them in `spool_dir`."""
        self._settings = settings
        self._seen: dict[Window, bytes] = {}

    def keep(self, part: Part) -> Path | None:
        """Keep a part's malformed lines, if another attempt would not mend them.

        It would not if the same lines were malformed in an earlier body as well, or if only
        one attempt is allowed.

        Returns:
            The file that keeps them; None if there are none.

        Raises:
            MalformedLineError: If another attempt may mend them.
            SpoolError: If they can't be kept.
        """
        if (malformed := part.malformed) is None:
            return None
        seen = self._seen.get(part.window)
        self._seen[part.window] = malformed.digest
        if malformed.digest != seen and self._settings.max_attempts > 1:
            raise malformed.first
        path = self._settings.spool_dir / self._name(part.window)
        try:
            # In one step, and in place of a link rather than to where it leads: spool_dir
            # may be everybody's.
            malformed.path.replace(path)
        except OSError as error:
            raise spool_error(path, error) from None
        return path

    def _name(self, window: Window) -> str:
        """A file name that no tap with other filters, or of another project, makes."""
        project = re.sub(r"\W", "_", self._settings.project_id or "")
        digest = self._settings.fingerprint
        parts = ("tap-mixpanel-parallel-quarantine", project, digest, str(window))
        return f"{'-'.join(filter(None, parts))}.jsonl"
