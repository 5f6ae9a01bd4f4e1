"""The files of a BATCH message, and their encoding: found, opened, brought here, removed."""

from __future__ import annotations

import gzip
import json
import logging
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, cast
from urllib.parse import unquote, urlsplit

import fsspec
from singer_sdk.helpers._batch import BaseBatchFileEncoding

from target_duckdb_batch.errors import InputError, ManifestError
from target_duckdb_batch.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

for _library in ("aiobotocore", "azure", "botocore", "fsspec", "gcsfs", "google", "s3fs"):
    # They log what they sign, and where they found credentials.
    logging.getLogger(_library).setLevel(logging.WARNING)


@dataclass(frozen=True)
class Manifest:
    """The files of a BATCH message.

    Attributes:
        stream: The stream that they belong to, for messages.
        urls: Paths, `file://` URLs or those of any storage that fsspec knows.
        storage_options: What fsspec needs to open those that are not local.
    """

    stream: str
    urls: Sequence[str]
    storage_options: Mapping[str, Any]

    @classmethod
    def of(cls, stream: str, urls: Iterable[str], storage_options: Mapping[str, Any]) -> Self:
        """The files of a message, each of them once, however often it is named."""
        different = {local_path(url) or url: url for url in reversed(tuple(urls))}
        return cls(stream, tuple(reversed(different.values())), storage_options)

    def check(self) -> None:
        """Make sure that every file is there.

        Raises:
            ManifestError: If one is not; it names the first.
        """
        for url in self.urls:
            if not self._exists(url):
                raise ManifestError(
                    f"stream {self.stream}: {self.shown(url)} is in a BATCH message, but it is not "
                    "there; was it loaded and removed before? Run the tap again"
                )

    @contextmanager
    def local_paths(self, folder: Path) -> Iterator[list[str]]:
        """The files as local ones; those that are not are copied, and the copies removed.

        Args:
            folder: Where copies go; whatever is in it is removed.

        Raises:
            ManifestError: If one can't be copied.
        """
        try:
            yield [self._local(url, folder / str(n)) for n, url in enumerate(self.urls)]
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def lines(self, url: str, compression: str | None) -> Iterator[bytes]:
        """The lines of a file of JSON lines.

        Raises:
            ManifestError: If it is damaged, or the storage breaks.
        """
        try:
            with self._open(url) as raw:
                if compression == "gzip":
                    with gzip.open(raw) as lines:
                        yield from lines
                else:
                    yield from raw
        except Exception as error:  # noqa: BLE001 - each storage has errors of its own
            raise self.damaged(url, error) from None

    def damaged(self, url: str, error: object) -> ManifestError:
        """Say that a file can't be read."""
        said = " ".join(str(error).split()) or type(error).__name__
        return ManifestError(
            f"stream {self.stream}: {self.shown(url)} can't be read: {self.shown(said)}; "
            "nothing of its BATCH message is loaded. Run the tap again"
        )

    def shown(self, text: object) -> str:
        """A text about the files, without secrets."""
        return redacted(str(text), self.storage_options)

    def remove(self, logger: logging.Logger) -> None:
        """Remove the files; one that can't be removed is said, and left."""
        for url in self.urls:
            try:
                path = local_path(url)
                if path is not None:
                    path.unlink(missing_ok=True)
                else:
                    storage, name = fsspec.core.url_to_fs(url, **self.storage_options)
                    storage.rm_file(name)  # `rm` takes a name for a pattern
            except Exception as error:  # noqa: BLE001 - each storage has errors of its own
                logger.warning(
                    "%s is loaded, but can't be removed: %s", self.shown(url), self.shown(error)
                )

    def _exists(self, url: str) -> bool:
        path = local_path(url)
        if path is not None:
            return path.is_file()
        try:
            storage, name = fsspec.core.url_to_fs(url, **self.storage_options)
            return bool(storage.exists(name))
        except Exception as error:  # noqa: BLE001 - each storage has errors of its own
            raise self.damaged(url, error) from None

    def _local(self, url: str, copy: Path) -> str:
        path = local_path(url)
        if path is not None:
            return str(path)
        try:
            copy.parent.mkdir(exist_ok=True)
            with self._open(url) as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except Exception as error:  # noqa: BLE001 - each storage has errors of its own
            raise self.damaged(url, error) from None
        return str(copy)

    @contextmanager
    def _open(self, url: str) -> Iterator[IO[bytes]]:
        path = local_path(url)
        if path is not None:
            with path.open("rb") as file:
                yield file
        else:
            with fsspec.open(url, "rb", **self.storage_options) as file:
                yield file


def local_path(url: str) -> Path | None:
    """The path of a local file; None for any other."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        path = Path(url.removeprefix("file://").removeprefix("localhost"))
        return path if path.exists() else Path(unquote(str(path)))
    return Path(url) if "://" not in url else None


def read_encoding(stream: str, given: object) -> BaseBatchFileEncoding:
    """The encoding of a BATCH message.

    Raises:
        InputError: If files of it can't be read.
    """
    with suppress(TypeError):
        encoding = BaseBatchFileEncoding(**cast("dict[str, Any]", given))
        if encoding.format == "parquet" or (
            encoding.format == "jsonl" and encoding.compression in {None, "none", "gzip"}
        ):
            return encoding
    raise InputError(
        f"stream {stream}: batch files encoded as {json.dumps(given)} are not supported; set the "
        "tap's batch_config to parquet, or to jsonl with gzip"
    )
