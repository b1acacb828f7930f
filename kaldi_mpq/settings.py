# SPDX-License-Identifier: Apache-2.0
"""One frozen dataclass per verb is at once its YAML schema, its command-line flags and its JSON stamp.

Not here: the settings themselves; each package keeps its own in a ``settings.py`` that imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from kaldi_mpq.artefact import require
from kaldi_mpq.errors import ConfigError

__all__ = ["as_plain", "build", "convert", "nearest", "read_yaml", "setting"]

T = TypeVar("T")


def setting(
    default: Any = dataclasses.MISSING, *, help: str, choices: Sequence[Any] | None = None, positional: bool = False
) -> Any:
    """Return a dataclass field with what the command line needs to know about it.

    Args:
      default: absent means that the setting is required.
      help: one line for ``--help``.
      choices: the only values that are allowed.
      positional: a positional argument of the command instead of a flag.
    """
    metadata = {"help": help, "choices": tuple(choices) if choices else None, "positional": positional}
    return dataclasses.field(default=default, metadata=metadata)


def build(cls: type[T], values: Mapping[str, Any], *, where: str | Path | None = None) -> T:
    """Return ``cls(**values)`` with every value converted to its field's type.

    Raises:
      ConfigError: an unknown key (the nearest valid one is named), a missing required key, a wrong type or choice.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for name in values:
        if name not in fields:
            raise ConfigError(f"unknown setting {name!r}", where=where, hint=nearest(name, fields))
    missing = [name for name, field in fields.items() if name not in values and _required(field)]
    if missing:
        raise ConfigError(f"missing setting(s) {', '.join(missing)}", where=where)
    converted = {name: convert(value, hints[name], name=name, where=where) for name, value in values.items()}
    for name, value in converted.items():
        choices = fields[name].metadata.get("choices")
        if choices and value is not None and value not in choices:
            raise ConfigError(
                f"bad value for {name}", where=where, expected=f"one of {', '.join(map(str, choices))}", found=value
            )
    return cls(**converted)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; an empty file is an empty mapping.

    Raises:
      MissingInputError, ConfigError: no such file, or it does not hold a mapping.
    """
    require([path])
    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError("not valid YAML", where=path, found=str(error).replace("\n", " ")) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError("not a YAML mapping", where=path, expected="key: value", found=type(value).__name__)
    return value


def as_plain(settings: Any) -> dict[str, Any]:
    """Return a settings object as JSON-ready values."""
    return {field.name: _plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}


def nearest(name: str, valid: Any) -> str:
    """Return a hint that names the valid name closest to ``name``, or all of them."""
    close = difflib.get_close_matches(name, list(valid), n=1)
    return f"did you mean {close[0]!r}?" if close else f"valid: {', '.join(sorted(valid))}"


def convert(value: Any, hint: Any, *, name: str, where: str | Path | None = None) -> Any:
    """Return ``value`` as the type ``hint``: bool, int, float, str, Path, a tuple of these, or None where allowed.

    Raises:
      ConfigError: the value is not of that type. Booleans are the words true and false, as in Kaldi.
    """
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [option for option in typing.get_args(hint) if option is not type(None)]
        if value is None or value == "":
            return None
        return convert(value, inner[0], name=name, where=where)
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        return tuple(convert(item, typing.get_args(hint)[0], name=name, where=where) for item in items)
    wrong = ConfigError(
        f"bad value for {name}", where=where, expected=getattr(hint, "__name__", hint), found=repr(value)
    )
    if hint is bool:
        word = str(value).lower()
        if word not in ("true", "false"):
            raise ConfigError(f"bad value for {name}", where=where, expected="true or false", found=repr(value))
        return word == "true"
    if isinstance(value, bool) or (hint is int and isinstance(value, float) and not value.is_integer()):
        raise wrong
    if hint is str and isinstance(value, (dict, list)):
        raise wrong
    try:
        return hint(value)
    except (TypeError, ValueError):
        raise wrong from None


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
