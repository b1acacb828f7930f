# SPDX-License-Identifier: Apache-2.0
"""Parse ``mpq VERB --key value ...`` in Kaldi's option grammar, call the verb, print its result.

``--key value`` and ``--key=value``, ``-`` and ``_`` in names alike, booleans as the words true and false, ``--config``
anywhere: a YAML file whose values the other options override. Results go to stdout, the log to stderr.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kaldi_mpq.cli.commands import COMMANDS
from kaldi_mpq.errors import ConfigError, MpqError
from kaldi_mpq.settings import build, nearest, read_yaml

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 2 after bad input, 130 after Ctrl-C, 141 after `| head`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        return _tell(_overview()) or (0 if words else 2)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="LOG (mpq:%(module)s) %(message)s")
    try:
        return _run(words)
    except MpqError as error:
        print(f"ERROR (mpq) {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("ERROR (mpq) interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130


def _run(words: list[str]) -> int:
    name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
    command = COMMANDS.get(name)
    if command is None:
        below = [known for known in COMMANDS if known.split()[0] == words[0]]
        if below and (len(words) == 1 or words[1] in ("-h", "--help")):
            return _tell("\n".join(_line(known) for known in below))
        raise ConfigError(f"unknown command {' '.join(words[:2])!r}", hint=nearest(" ".join(words[:2]), COMMANDS))
    settings_class = command.settings_class()
    values = parse(settings_class, words[len(name.split()) :])
    if values is None:
        return _tell(_help(name, settings_class))
    result = command.run(build(settings_class, values))
    return _tell(result) if result else 0


def _tell(text: str) -> int:
    """Print a result; return 0, or 141, as a shell calls it, when whoever read it (``| head``) has gone."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        return 141
    return 0


def parse(settings_class: type, words: Sequence[str]) -> dict[str, Any] | None:
    """Return setting -> value from the command line and ``--config``; None when help was asked for.

    Raises:
      ConfigError: an unknown option (the nearest is named), an option without a value, too many positionals.
    """
    fields = {field.name: field for field in dataclasses.fields(settings_class)}
    hints = typing.get_type_hints(settings_class)
    positionals = [name for name, field in fields.items() if field.metadata.get("positional")]
    given: dict[str, Any] = {}
    config: dict[str, Any] = {}
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word in ("-h", "--help"):
            return None
        if not word.startswith("--"):
            rest.append(word)
            continue
        key, equals, value = word[2:].partition("=")
        key = key.replace("-", "_")
        if key != "config" and (key not in fields or key in positionals):
            raise ConfigError(
                f"unknown option --{key.replace('_', '-')}", hint=nearest(key, set(fields) - set(positionals))
            )
        if not equals:
            if not queue:
                raise ConfigError(f"option --{key.replace('_', '-')} has no value")
            value = queue.pop(0)
        if key == "config":
            config.update(read_yaml(Path(value)))
        elif typing.get_origin(hints[key]) is tuple:
            given[key] = (*given.get(key, ()), *value.split(","))
        else:
            given[key] = value
    given.update(_assign(positionals, rest, hints))
    return {**config, **given}


def _assign(positionals: list[str], words: list[str], hints: dict[str, Any]) -> dict[str, Any]:
    """Pair positional words with their settings; a tuple in last place takes all that are left."""
    many = bool(positionals) and typing.get_origin(hints[positionals[-1]]) is tuple
    if len(words) > len(positionals) and not many:
        raise ConfigError("too many arguments", expected=" ".join(positionals) or "none", found=" ".join(words))
    if many and len(words) >= len(positionals):
        last = len(positionals) - 1
        return {**dict(zip(positionals[:last], words, strict=False)), positionals[last]: tuple(words[last:])}
    return dict(zip(positionals, words, strict=False))


def _overview() -> str:
    lines = ["mpq: train, quantize and rescore with mixed-precision language models for Kaldi", ""]
    return "\n".join(lines + [_line(name) for name in COMMANDS] + ["", "mpq VERB --help tells a verb's options."])


def _line(name: str) -> str:
    return f"  mpq {name:<14} {_summary(COMMANDS[name].settings_class())}"


def _summary(settings_class: type) -> str:
    return (settings_class.__doc__ or "").strip().splitlines()[0]


def _help(name: str, settings_class: type) -> str:
    fields = dataclasses.fields(settings_class)
    positionals = [field for field in fields if field.metadata.get("positional")]
    flags = [field for field in fields if not field.metadata.get("positional")]
    lines = [
        f"usage: mpq {name} [--config FILE] [options] {' '.join(field.name.upper() for field in positionals)}".rstrip(),
        "",
    ]
    lines += [(settings_class.__doc__ or "").strip(), ""]
    lines += [f"  {field.name.upper():<28} {field.metadata.get('help', '')}" for field in positionals]
    lines += [f"  {'--config FILE':<28} YAML file of these options; the command line wins"]
    for field in flags:
        choices = field.metadata.get("choices")
        what = f" ({'|'.join(map(str, choices))})" if choices else ""
        default = "required" if field.default is dataclasses.MISSING else f"default {_shown(field.default)}"
        lines.append(f"  {'--' + field.name.replace('_', '-'):<28} {field.metadata.get('help', '')}{what} [{default}]")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or value == ():
        return "none"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
