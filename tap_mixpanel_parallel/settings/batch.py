"""`batch_config`: whether events leave as files, in which form, and where to."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tap_mixpanel_parallel.settings.reader import ConfigReader

SETTING: Final = "batch_config"
ROOT_SETTING: Final = f"{SETTING}.storage.root"

COMPRESSIONS: Final = {"parquet": "zstd", "jsonl": "gzip"}
"""Each format's compression."""

_BATCH_SIZE: Final = 1_000_000
_LARGEST_BATCH: Final = 100_000_000
_KEYS: Final = {
    "": {"encoding", "storage", "batch_size"},
    "encoding": {"format", "compression"},
    "storage": {"root", "prefix", "params"},
}
_CREDENTIALS: Final = re.compile(
    r"://[^@]*:[^@]*@|[?&;](sig|sv|\w*(secret|token|password|key)\w*)=", re.IGNORECASE
)
_EXTRAS: Final = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "azure"),
}
"""The extra that serves each protocol."""

_PREFIX: Final = re.compile(r"[\w.=-]{0,100}", re.ASCII)
"""With the rest of a file's name, it is not longer than file systems take."""


@dataclass(frozen=True, slots=True)
class BatchConfig:
    """How events leave as files.

    Attributes:
        format: `parquet` or `jsonl`.
        root: The folder of the files: a path, or a URL that fsspec knows.
        prefix: What their names begin with.
        batch_size: How many records a file has at most.
        params: What fsspec needs to open the root, beyond what the environment says.
    """

    format: str
    root: str
    prefix: str = ""
    batch_size: int = _BATCH_SIZE
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)  # may hold secrets

    @property
    def compression(self) -> str:
        """How the files are compressed."""
        return COMPRESSIONS[self.format]

    @property
    def path(self) -> Path | None:
        """The root, if it is a local folder."""
        if self.root.startswith("file:"):
            return Path(re.sub(r"^file:(//(localhost(?=/))?)?", "", self.root)).absolute()
        return None if "://" in self.root else Path(self.root).absolute()

    @property
    def shown_root(self) -> str:
        """The root without what may be credentials in it."""
        return re.sub(r"//.*@", "//***@", self.root)


def read_batch(reader: ConfigReader) -> BatchConfig | None:
    """Read `batch_config`, and check that files can be made as it says.

    Returns:
        None if it is not set, or not valid.
    """
    given = reader.value(SETTING)
    if given is None:
        return None
    known = len(reader.problems)
    if (whole := _object(reader, "", given)) is None:
        return None
    encoding = _object(reader, "encoding", whole.get("encoding"))
    storage = _object(reader, "storage", whole.get("storage"))
    config = BatchConfig(
        "jsonl" if encoding is None else _format(reader, encoding),
        "" if storage is None else _root(reader, storage),
        "" if storage is None else _prefix(reader, storage),
        _batch_size(reader, whole),
        {} if storage is None else _params(reader, storage),
    )
    if config.root:
        _check_root(reader, config)
    for name in ("stream_maps", "flattening_enabled"):
        if reader.is_set(name):
            reader.problems.append(
                f"{SETTING}: files hold records as they are, so {name} would have no effect; "
                f"remove {name}, or {SETTING}"
            )
    return config if len(reader.problems) == known else None


def _object(reader: ConfigReader, name: str, value: object) -> dict[str, Any] | None:
    """The part of that name, with known keys only; None if it is not an object."""
    place = _place(name)
    if not isinstance(value, Mapping):
        # Not quoted: a text that is nearly JSON may hold the storage's secrets.
        reader.problems.append(
            f'{place}: is not an object; give e.g. {{"encoding": {{"format": "parquet"}}, '
            '"storage": {"root": "file:///data/mixpanel"}}'
        )
        return None
    for key in sorted(map(str, value.keys() - _KEYS[name])):
        reader.reject(
            place, key, f"is unknown in it; give {', '.join(sorted(_KEYS[name]))}, and nothing else"
        )
    return dict(value)


def _format(reader: ConfigReader, encoding: Mapping[str, Any]) -> str:
    given, compression = encoding.get("format"), encoding.get("compression")
    if not isinstance(given, str) or given not in COMPRESSIONS:
        reader.reject(
            f"{SETTING}.encoding.format", given, f"is unknown; give one of {_listed(COMPRESSIONS)}"
        )
        return "jsonl"
    if compression not in (None, "", COMPRESSIONS[given]):
        reader.reject(
            f"{SETTING}.encoding.compression",
            compression,
            f"does not go with {given}; give {COMPRESSIONS[given]}, or leave it out",
        )
    if given == "parquet" and find_spec("pyarrow") is None:
        reader.reject(
            f"{SETTING}.encoding.format",
            given,
            "needs pyarrow, which is not installed; install tap-mixpanel-parallel[files], "
            "or give jsonl",
        )
    return given


def _prefix(reader: ConfigReader, storage: Mapping[str, Any]) -> str:
    value = storage.get("prefix")
    if value in (None, ""):
        return ""
    if not isinstance(value, str) or not _PREFIX.fullmatch(value):
        reader.reject(
            f"{SETTING}.storage.prefix",
            value,
            "is not valid; give at most 100 letters, digits and any of _ . = -",
        )
        return ""
    return value


def _params(reader: ConfigReader, storage: Mapping[str, Any]) -> Mapping[str, Any]:
    value = storage.get("params")
    if value is not None and not isinstance(value, Mapping):
        reader.problems.append(
            f"{SETTING}.storage.params: is not an object; give what fsspec needs, by name"
        )
        return {}
    return dict(value or {})


def _batch_size(reader: ConfigReader, whole: Mapping[str, Any]) -> int:
    value = whole.get("batch_size")
    if value is None:
        return _BATCH_SIZE
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST_BATCH:
        return value
    reader.reject(
        f"{SETTING}.batch_size",
        value,
        f"is not valid; give a whole number from 1 to {_LARGEST_BATCH:,}",
    )
    return _BATCH_SIZE


def _root(reader: ConfigReader, storage: Mapping[str, Any]) -> str:
    value = storage.get("root")
    if isinstance(value, str) and value.strip() and value.isprintable():
        if not _CREDENTIALS.search(value):
            return value.strip()
        reader.problems.append(
            f"{ROOT_SETTING}: contains credentials, and every message with files would show them; "
            "give them in the environment, or in storage.params"
        )
        return ""
    reader.reject(ROOT_SETTING, value, "is not valid; give e.g. file:///data/mixpanel")
    return ""


def _check_root(reader: ConfigReader, config: BatchConfig) -> None:
    if config.path is not None:
        _check_folder(reader, config.path)
        return
    protocol = config.root.partition("://")[0]
    extra = _EXTRAS.get(protocol)
    try:
        import fsspec  # noqa: PLC0415 - needed for no other root

        fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        what = f"tap-mixpanel-parallel[{extra}]" if extra else "what serves such a URL"
        reader.reject(
            ROOT_SETTING,
            config.shown_root,
            f"can't be used: {error}; install {what}, or give a folder",
        )


def _check_folder(reader: ConfigReader, path: Path) -> None:
    """Check that files can be made in a folder, which a run makes if it is not there."""
    try:
        nearest = next(part for part in (path, *path.parents) if os.path.lexists(part))
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        reader.reject(
            ROOT_SETTING,
            str(path),
            f"can't be written to ({error.strerror}); give a writable folder",
        )


def _place(name: str) -> str:
    return f"{SETTING}.{name}" if name else SETTING


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names)
