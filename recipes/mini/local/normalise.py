# SPDX-License-Identifier: Apache-2.0
"""Chat messages as a telephone transcript has them: lower case, words and apostrophes, numbers spelled out.

Not here: where messages come from (`conversations`) and how words are pronounced (`pronounce`).
"""

from __future__ import annotations

import functools
import re

import inflect

__all__ = ["normalise"]

_LINK = re.compile(r"(?:https?://|www\.)\S+")
_FACE = re.compile(r"(?<!\S)[:;=x8][-']?[()dpo3/|*]+(?!\S)", re.IGNORECASE)
_CLOCK = re.compile(r"\b(\d{1,2}):(\d\d)\b")
_MONEY = re.compile(r"\$(\d[\d,]*(?:\.\d+)?)")
_NUMBER = re.compile(r"(\d[\d,]*(?:\.\d+)?)(st|nd|rd|th)?(?![\d])", re.IGNORECASE)
_SIGNS = {"%": " percent ", "&": " and ", "+": " plus ", "\u2018": "'", "\u2019": "'"}
_MAX_DIGITS = 12  # longer ones are typed nonsense; they are read digit by digit
_APOSTROPHES = re.compile(r"(?<![a-z])'+|'+(?![a-z])")
_OTHER = re.compile(r"[^a-z']+")


def normalise(message: str) -> list[str]:
    """Return the words of a message; none if it has only signs.

    >>> normalise("I've got 2 dogs & a cat :) It's 7:30, isn't it?")
    ["i've", 'got', 'two', 'dogs', 'and', 'a', 'cat', "it's", 'seven', 'thirty', "isn't", 'it']
    """
    text = _FACE.sub(" ", _LINK.sub(" ", message))
    for sign, said in _SIGNS.items():
        text = text.replace(sign, said)
    text = _CLOCK.sub(_clock, text)
    text = _MONEY.sub(lambda found: f" {_spelled(found[1])} dollars ", text)
    text = _NUMBER.sub(lambda found: f" {_spelled(found[1], ordinal=found[2] is not None)} ", text)
    return _OTHER.sub(" ", _APOSTROPHES.sub(" ", text.lower())).split()


def _clock(found: re.Match[str]) -> str:
    hour, minute = found.groups()
    return f" {_spelled(hour)} {'' if minute == '00' else _spelled(minute)} "


@functools.cache
def _engine() -> inflect.engine:
    return inflect.engine()


@functools.lru_cache(maxsize=10_000)
def _spelled(number: str, ordinal: bool = False) -> str:
    digits = number.replace(",", "")
    if len(digits) > _MAX_DIGITS:
        digits, ordinal = " ".join(digits.replace(".", "")), False
        return " ".join(_engine().number_to_words(digit) for digit in digits.split())
    words = _engine().number_to_words(digits, andword="")
    return _engine().ordinal(words) if ordinal else words
