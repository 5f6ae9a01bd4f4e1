"""Selection by a catalog. Nothing else of it is used: the schema and the keys are the tap's."""

from __future__ import annotations

from typing import Any, Final

from singer_sdk.singerlib import Catalog, CatalogEntry, MetadataMapping, Schema

from tap_mixpanel_parallel.exceptions import TapError
from tap_mixpanel_parallel.sdk_settings import shape_problems


def _object(required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_CHOICE: Final = {"type": ["boolean", "null"]}
_METADATA: Final = _object(
    ["breadcrumb", "metadata"],
    {
        "breadcrumb": _array({"type": "string"}),
        "metadata": _object([], {"selected": _CHOICE, "selected-by-default": _CHOICE}),
    },
)
_STREAM: Final = _object(
    ["tap_stream_id"], {"tap_stream_id": {"type": "string"}, "metadata": _array(_METADATA)}
)
_SCHEMA: Final = _object(["streams"], {"streams": _array(_STREAM)})

_REMEDY: Final = "give the catalog that --discover prints, with its `selected` changed"


def read_catalog(content: object, stream: str) -> Catalog:
    """The part of a catalog that says what is selected of a stream.

    Raises:
        TapError: If it has another shape, or belongs to another tap.
    """
    for problem in shape_problems(content, _SCHEMA):
        raise TapError(f"catalog: {problem}; {_REMEDY}")
    assert isinstance(content, dict)  # noqa: S101 - as the schema says
    entries = {entry["tap_stream_id"]: entry for entry in content["streams"]}
    if stream not in entries:
        names = ", ".join(sorted(entries)) or "none"
        raise TapError(
            f"catalog: it has no stream {stream!r}, only {names}, so it belongs to another tap; "
            f"{_REMEDY}"
        )
    metadata = MetadataMapping.from_iterable(entries[stream].get("metadata", []))
    return Catalog({stream: CatalogEntry(stream, metadata, Schema())})


def select(metadata: MetadataMapping, given: MetadataMapping) -> None:
    """Select in a stream's metadata what a catalog selects, if its metadata says anything."""
    if given:
        for breadcrumb in {(), *given} & metadata.keys():
            metadata[breadcrumb].selected = given[breadcrumb].selected
            metadata[breadcrumb].selected_by_default = given[breadcrumb].selected_by_default
