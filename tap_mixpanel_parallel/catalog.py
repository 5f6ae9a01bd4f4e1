"""What a catalog selects. All else in it is left aside: the schema and the keys are the tap's."""

from __future__ import annotations

from typing import Any, Final

from singer_sdk.singerlib import Catalog, CatalogEntry, MetadataMapping, Schema

from tap_mixpanel_parallel.exceptions import TapError
from tap_mixpanel_parallel.sdk_settings import shape_problems

_CHOICE: Final = {"type": ["boolean", "null"]}
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["streams"],
    "properties": {
        "streams": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tap_stream_id"],
                "properties": {
                    "tap_stream_id": {"type": "string"},
                    "metadata": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["breadcrumb", "metadata"],
                            "properties": {
                                "breadcrumb": {"type": "array", "items": {"type": "string"}},
                                "metadata": {
                                    "type": "object",
                                    "properties": {
                                        "selected": _CHOICE,
                                        "selected-by-default": _CHOICE,
                                    },
                                },
                            },
                        },
                    },
                },
            },
        }
    },
}

_REMEDY: Final = "give the catalog that --discover prints, with its `selected` changed"


def read_catalog(content: object, stream: str) -> Catalog:
    """The part of a catalog that says what is selected of a stream.

    Raises:
        TapError: If it is of another shape, or of another tap.
    """
    for problem in shape_problems(content, _SCHEMA):
        raise TapError(f"catalog: {problem}; {_REMEDY}")
    assert isinstance(content, dict)  # noqa: S101 - as the schema says
    entries = {entry["tap_stream_id"]: entry for entry in content["streams"]}
    if stream not in entries:
        names = ", ".join(sorted(entries)) or "none"
        raise TapError(
            f"catalog: it has no stream {stream!r} but {names}, so it is of another tap; {_REMEDY}"
        )
    metadata = MetadataMapping.from_iterable(entries[stream].get("metadata", []))
    return Catalog({stream: CatalogEntry(stream, metadata, Schema())})


def select(metadata: MetadataMapping, given: MetadataMapping) -> None:
    """Select in a stream's metadata what a catalog's metadata for it selects, if it has any."""
    if given:
        for breadcrumb in {(), *given} & metadata.keys():
            metadata[breadcrumb].selected = given[breadcrumb].selected
            metadata[breadcrumb].selected_by_default = given[breadcrumb].selected_by_default
