"""The settings of a run for people, without secrets. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tap_mixpanel_parallel.settings.batch import SETTING as BATCH
from tap_mixpanel_parallel.settings.schema import CONFIG_SCHEMA
from tap_mixpanel_parallel.wording import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tap_mixpanel_parallel.settings.settings import Settings

_LONGEST: Final = 300
_HIDDEN: Final = "set, not shown"


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """A setting.

    Attributes:
        name: Its name.
        value: Its value in words.
        is_given: Whether the configuration gives it, so that it may differ from the default.
    """

    name: str
    value: str
    is_given: bool


def shown_settings(
    config: Mapping[str, Any], settings: Settings, redact: Callable[[str], str]
) -> tuple[ShownSetting, ...]:
    """All settings that have a value; of those that may hold a secret, only that they are set.

    Args:
        config: The configuration.
        settings: What was read of it.
        redact: Hides the secret wherever else it stands.
    """
    rows = []
    for name, schema in CONFIG_SCHEMA["properties"].items():
        given, default = config.get(name), schema.get("default")
        if given in (None, "") and default is None:
            continue
        value = default if given in (None, "") else given
        if schema.get("secret"):
            text = _HIDDEN
        elif name == BATCH:
            batch = settings.batch_config
            text = f"{batch.format} files in {batch.shown_root}" if batch else _HIDDEN
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        rows.append(ShownSetting(name, _short(redact(text)), given not in (None, "", default)))
    # The SDK's: they may hold expressions and seeds.
    rows.extend(
        ShownSetting(printable(name), _HIDDEN, is_given=True)
        for name, value in config.items()
        if name in _SDK_SETTINGS and value
    )
    return tuple(rows)


_SDK_SETTINGS: Final = (
    "stream_maps",
    "stream_map_config",
    "faker_config",
    "flattening_enabled",
    "flattening_max_depth",
    "flattening_max_key_length",
    "flattening_separator",
)


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
