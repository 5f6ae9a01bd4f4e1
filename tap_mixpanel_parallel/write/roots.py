"""Where files of data lie: a folder of this machine, or any storage that fsspec knows."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from tap_mixpanel_parallel.exceptions import SpoolError, TapError
from tap_mixpanel_parallel.fetch.spool import Spool, spooling
from tap_mixpanel_parallel.settings.batch import ROOT_SETTING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import ExitStack
    from pathlib import Path

    from tap_mixpanel_parallel.settings.batch import BatchConfig

_BUCKETS: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
"""Protocols of storages that have no folders. To make one there could make a bucket."""

_LIBRARIES: Final = ("aiobotocore", "azure", "botocore", "fsspec", "gcsfs", "google", "s3fs")

_SECRET: Final = re.compile(
    r"secret|token|password|passphrase|credential|connection_string|key\b", re.IGNORECASE
)
_SECRET_VARIABLE: Final = re.compile(
    r"(AWS|AZURE|GOOGLE|GCS|FSSPEC)_.*(SECRET|TOKEN|PASSWORD|KEY|CONNECTION_STRING).*"
)
_SHORTEST_SECRET: Final = 4
_USER: Final = re.compile(r"//[^\s/:@]*:\S*@")
"""What a URL says of the user, with a password."""

_PART: Final = 8 << 20
"""Bytes of a part of an upload to S3."""

_PARTS_AT_ONCE: Final = 4
"""Each is in memory twice. With s3fs's own sizes, an upload takes up to a gigabyte."""

_MOST_PARTS: Final = 10_000
"""S3 takes no more."""


def open_root(config: BatchConfig) -> LocalRoot | RemoteRoot:
    """The root of the files."""
    if config.path is not None:
        return LocalRoot(config.path)
    return RemoteRoot(config)


class LocalRoot:
    """A folder of this machine, or one that several machines see.

    Attributes:
        made_by: The setting that says where files are made.
    """

    made_by: Final = ROOT_SETTING

    def __init__(self, path: Path) -> None:
        """Use this folder."""
        self._path = path

    def open(self) -> None:
        """There is nothing to open."""

    def make(self) -> None:
        """Make the folder if it is not there."""
        with spooling(self._path, ROOT_SETTING):
            self._path.mkdir(parents=True, exist_ok=True)

    def names(self) -> list[str]:
        """The names of what is there."""
        with spooling(self._path / "*", ROOT_SETTING):
            return [path.name for path in self._path.iterdir()]

    def write(self, name: str, text: bytes) -> None:
        """Write a small file."""
        with spooling(self._path / name, ROOT_SETTING):
            (self._path / name).write_bytes(text)

    def remove(self, name: str) -> None:
        """Remove a file."""
        with spooling(self._path / name, ROOT_SETTING):
            (self._path / name).unlink(missing_ok=True)

    def folder(self, stack: ExitStack, spool: Path) -> Path:  # noqa: ARG002
        """Where files are made: on the root's own file system, so that a name is one step."""
        return stack.enter_context(Spool(self._path, ROOT_SETTING)).path

    def put(self, file: Path, name: str) -> None:
        """Bring a file there, under its name; in one step, if it lies on the same file system."""
        with spooling(self._path / name, ROOT_SETTING):
            try:
                file.replace(self._path / name)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                shutil.copyfile(file, self._path / name)
                file.unlink()

    def get(self, name: str, file: Path) -> None:
        """Copy what is there to a file of this machine."""
        with spooling(self._path / name, ROOT_SETTING):
            shutil.copyfile(self._path / name, file)

    def rename(self, name: str, new: str) -> None:
        """Give what is there another name."""
        with spooling(self._path / name, ROOT_SETTING):
            (self._path / name).replace(self._path / new)

    def abort_uploads(self, start: str) -> None:
        """There are no uploads."""

    def url(self, name: str) -> str:
        """A file's URL."""
        return f"file://{self._path / name}"


class RemoteRoot:
    """A folder of any storage that fsspec knows.

    Attributes:
        made_by: The setting that says where files are made.
    """

    made_by: Final = "spool_dir"

    def __init__(self, config: BatchConfig) -> None:
        """Use the folder of this configuration."""
        self._root = config.root.rstrip("/")
        self._shown = config.shown_root
        self._params = dict(config.params)

    def open(self) -> None:
        """Open the storage.

        Raises:
            TapError: If it can't be opened.
        """
        import fsspec  # noqa: PLC0415 - needed for no other root

        for name in _LIBRARIES:  # they log what they sign, and where they found credentials
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            self._files, self._path = fsspec.core.url_to_fs(self._root, **self._params)
        except Exception as error:  # noqa: BLE001 - each storage has errors of its own
            raise self._fails("can't be opened", error) from None
        self._is_s3 = hasattr(self._files, "call_s3")

    def make(self) -> None:
        """Make the folder if it is not there, and if there are folders.

        Raises:
            TapError: If it can't be made.
        """
        try:
            if not _BUCKETS & {*_texts(self._files.protocol)}:
                self._files.makedirs(self._path, exist_ok=True)
        except Exception as error:  # noqa: BLE001
            raise self._fails("can't be made", error) from None

    def names(self) -> list[str]:
        """The names of what is there."""
        try:
            self._files.invalidate_cache()  # others write there too
            found = self._files.ls(self._path, detail=False)
        except FileNotFoundError:  # object storage has no empty folders
            return []
        except Exception as error:  # noqa: BLE001
            raise self._fails("can't be read", error) from None
        return [str(path).rsplit("/", 1)[-1] for path in found]

    def write(self, name: str, text: bytes) -> None:
        """Write a small file."""
        try:
            self._files.pipe_file(f"{self._path}/{name}", text)
        except Exception as error:  # noqa: BLE001
            raise self._fails("can't be written to", error) from None

    def remove(self, name: str) -> None:
        """Remove a file."""
        try:
            self._files.rm_file(f"{self._path}/{name}")
        except FileNotFoundError:
            return
        except Exception as error:  # noqa: BLE001
            raise self._fails(f"{name} can't be removed", error) from None

    def folder(self, stack: ExitStack, spool: Path) -> Path:  # noqa: ARG002
        """Where files are made."""
        return spool

    def put(self, file: Path, name: str) -> None:
        """Bring a file there, under its name."""
        try:
            self._files.put_file(str(file), f"{self._path}/{name}", **self._parts(file))
        except Exception as error:  # noqa: BLE001
            raise self._lost(f"{name} can't be stored", error) from None
        file.unlink(missing_ok=True)

    def get(self, name: str, file: Path) -> None:
        """Copy what is there to a file of this machine."""
        try:
            at_once = {"max_concurrency": 1} if self._is_s3 else {}
            self._files.get_file(f"{self._path}/{name}", str(file), **at_once)
        except Exception as error:  # noqa: BLE001
            raise self._lost(f"{name} can't be read", error) from None

    def _parts(self, file: Path) -> dict[str, int]:
        """How a file is uploaded, so that little of it is in memory at once."""
        if not self._is_s3:
            return {}
        part = max(_PART, -(-file.stat().st_size // _MOST_PARTS))
        return {"chunksize": part, "max_concurrency": _PARTS_AT_ONCE}

    def rename(self, name: str, new: str) -> None:
        """Give what is there another name."""
        try:
            self._files.cp_file(f"{self._path}/{name}", f"{self._path}/{new}")
        except Exception as error:  # noqa: BLE001
            raise self._lost(f"{new} can't be stored", error) from None
        with suppress(TapError):  # a copy too many is removed later
            self.remove(name)

    def abort_uploads(self, start: str) -> None:
        """End uploads of several parts that a kill has cut: S3 keeps what they brought.

        Args:
            start: What the names of their files begin with.
        """
        if not self._is_s3:
            return
        with suppress(Exception):  # not every account may list them
            bucket, prefix, _ = self._files.split_path(f"{self._path}/{start}")
            where, asked = {"Bucket": bucket, "Prefix": prefix}, {"": ""}
            while where != asked:  # until there is no other page
                page, asked = self._files.call_s3("list_multipart_uploads", **where), where
                for upload in page.get("Uploads", ()):
                    if upload["Key"].startswith(prefix):
                        with suppress(Exception):  # it may have ended by itself
                            self._files.abort_mpu(bucket, upload["Key"], upload["UploadId"])
                if page.get("IsTruncated"):
                    where = where | {
                        "KeyMarker": page["NextKeyMarker"],
                        "UploadIdMarker": page["NextUploadIdMarker"],
                    }

    def url(self, name: str) -> str:
        """A file's URL."""
        return f"{self._root}/{name}"

    def _fails(self, what: str, error: Exception) -> TapError:
        return TapError(
            f"{ROOT_SETTING}: {self._shown}: {what}: {self._said(error)}; correct the root, or "
            "what the storage needs: credentials, region, endpoint (see docs/files.md)"
        )

    def _lost(self, what: str, error: Exception) -> SpoolError:
        return SpoolError(f"{ROOT_SETTING}: {what}: {self._said(error)}")

    def _said(self, error: Exception) -> str:
        """An error of the storage in one line, without secrets."""
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        for secret in sorted({*_secrets(self._params), *_secrets_around()}, key=len, reverse=True):
            said = said.replace(secret, "***")
        return _USER.sub("//***@", said)


def _secrets(params: Any, name: str = "") -> Iterator[str]:
    """The secrets among what opens a storage, however deep."""
    if isinstance(params, dict):
        for key, value in params.items():
            yield from _secrets(value, str(key))
    elif isinstance(params, (list, tuple)):
        for value in params:
            yield from _secrets(value, name)
    elif isinstance(params, str) and _SECRET.search(name) and len(params) >= _SHORTEST_SECRET:
        yield params


def _secrets_around() -> Iterator[str]:
    """The secrets that the environment gives to the libraries of storages."""
    for name, value in os.environ.items():
        if _SECRET_VARIABLE.fullmatch(name) and len(value) >= _SHORTEST_SECRET:
            yield value


def _texts(protocol: str | tuple[str, ...]) -> tuple[str, ...]:
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
