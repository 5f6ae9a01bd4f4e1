"""The configuration that every SDK tap has: the environment, and the SDK's own settings."""

from __future__ import annotations

from contextlib import suppress
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from singer_sdk.configuration._dict_config import parse_environment_config
from singer_sdk.plugin_base import JSONSchemaValidator
from singer_sdk.typing import DEFAULT_JSONSCHEMA_VALIDATOR

from tap_mixpanel_parallel.exceptions import TapError
from tap_mixpanel_parallel.settings.values import value_of
from tap_mixpanel_parallel.wording import printable, shown

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

Schema = dict[str, Any]


def read_environment(schema: Schema, prefix: str) -> dict[str, str]:
    """The settings that the environment, or a `.env` file, names.

    They stay text here. The SDK's own conversion fails on some texts, and takes a word that it
    does not know for false.

    Raises:
        TapError: If the `.env` file can't be read.
    """
    texts = {"properties": {name: {"type": "string"} for name in schema["properties"]}}
    try:
        found = parse_environment_config(texts, prefix)
    except (OSError, ValueError) as error:
        raise TapError(f".env: can't be read: {error}") from None
    return {name: value for name, value in found.items() if value.strip()}


def take(config: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """The settings that have a value, each in its setting's type where it is a form of it."""
    schemas = schema["properties"]
    values = {name: value_of(value, schemas.get(name, {})) for name, value in config.items()}
    return {name: value for name, value in values.items() if value is not None and value != ""}


def unknown_settings(config: Mapping[str, Any], schema: Schema) -> Iterator[str]:
    """A warning for each setting that does not exist."""
    known = schema["properties"]
    for name in config.keys() - known.keys():
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        yield f"{printable(name)}: is not a setting, and has no effect{hint}"


def sdk_problems(config: dict[str, Any], schema: Schema, own: Container[str]) -> list[str]:
    """The problems of the SDK's settings; those that have no value get their default.

    Args:
        config: The configuration.
        schema: The schema of all settings.
        own: The tap's own settings, which are not checked.
    """
    return [
        f"{'.'.join(map(str, error.path))}: {error.message}"
        for error in _errors(JSONSchemaValidator(schema).iter_errors(config))
        if error.path and error.path[0] not in own
    ]


def shape_problems(content: object, schema: Schema) -> Iterator[str]:
    """The places where JSON has another shape than a schema says."""
    for error in _errors(DEFAULT_JSONSCHEMA_VALIDATOR(schema).iter_errors(content)):
        place = "".join(f"[{part!r}]" for part in error.absolute_path)
        yield f"{place or 'it'}: {error.message}"


def _errors(errors: Iterator[Any]) -> Iterator[Any]:
    """A validator's errors, with long values shortened in their messages."""
    # The SDK's own schema of `__else__` is not valid; the map is checked when it is made.
    with suppress(AttributeError):
        for error in errors:
            error.message = error.message.replace(repr(error.instance), shown(error.instance))
            yield error
