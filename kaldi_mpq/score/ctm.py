# SPDX-License-Identifier: Apache-2.0
"""Words with times (CTM) from best paths.

    CTM :== file channel begin duration word          (seconds, of the recording)

A word begins where its arc's first transition-id is, and ends where the next one begins. In a lattice that has not gone
through lattice-align-words these times are near, not exact; they are in order and inside the utterance's segment, which
is what scoring against an stm of the same segments needs.

Not here: the stm and the scoring (`stm`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kaldi_mpq.errors import TextError
from kaldi_mpq.score.inputs import read_table
from kaldi_mpq.score.sweep import Hypothesis

__all__ = ["Recordings", "ctm_lines", "frame_shift_of", "word_times"]


@dataclass(frozen=True)
class Recordings:
    """Where each utterance lies: file, channel, begin and end in seconds."""

    segments: Mapping[str, tuple[str, str, float, float]]

    @classmethod
    def read(cls, data: Path) -> Recordings:
        """Read ``segments`` and ``reco2file_and_channel`` of a data directory.

        Raises:
          TextError: a line with other fields than it should have, or a recording that the second file does not know.
        """
        files = read_table(data / "reco2file_and_channel")
        segments = {}
        for name, fields in read_table(data / "segments").items():
            try:
                recording, begin, end = fields[0], float(fields[1]), float(fields[2])
                file, channel = files[recording]
            except (IndexError, ValueError, KeyError) as error:
                expected = "'utterance recording begin end', the recording in reco2file_and_channel"
                raise TextError(
                    f"bad segment of {name}", where=data / "segments", expected=expected, found=" ".join(fields)
                ) from error
            if not 0.0 <= begin < end:
                raise TextError(
                    f"bad times of {name}", where=data / "segments", expected="0 <= begin < end", found=f"{begin} {end}"
                )
            segments[name] = (file, channel, begin, end)
        return cls(segments)


def frame_shift_of(decode: Path) -> float:
    """Return the seconds per frame of a decode directory's lattices, looked for where Kaldi's scripts look.

    ``../frame_shift`` is taken as it is, ``../frame_subsampling_factor`` times 0.01 s; without either it is 0.01 s.

    Raises:
      TextError: the file does not hold a number above 0.
    """
    for name, unit in (("frame_shift", 1.0), ("frame_subsampling_factor", 0.01)):
        path = decode.resolve().parent / name
        if path.exists():
            try:
                shift = unit * float(path.read_text(encoding="ascii"))
            except ValueError as error:
                raise TextError("not a number", where=path, found=str(error)) from error
            if not shift > 0:
                raise TextError("bad frame shift", where=path, expected="a number above 0", found=shift)
            return shift
    return 0.01


def word_times(hypothesis: Hypothesis, seconds: float, frame_shift: float) -> np.ndarray:
    """Return (words + 1,) seconds from the utterance's begin: where each word begins and where the last one ends.

    Times rise strictly: words on arcs without frames of their own share the time up to the next word.

    Args:
      seconds: length of the utterance; a path that lasts longer is squeezed into it.
      frame_shift: seconds per frame.
    """
    count, end = len(hypothesis.words), max(hypothesis.frames, 1)
    begins = np.asarray(hypothesis.begins, dtype=np.float64)
    first = np.concatenate(([True], begins[1:] > begins[:-1])) & (begins < end)
    if not first[0]:  # all words at the very end
        begins, first = np.zeros(count), np.arange(count) == 0
    times = np.interp(np.arange(count + 1), np.append(np.flatnonzero(first), count), np.append(begins[first], end))
    return times * min(frame_shift, seconds / end)


def ctm_lines(
    hypotheses: Mapping[str, Hypothesis], recordings: Recordings, frame_shift: float, ignored: Iterable[str] = ()
) -> list[str]:
    """Return the lines of a CTM, sorted by file, channel and time.

    Args:
      ignored: words to leave out, in lower case.
    """
    dropped = {word.lower() for word in ignored}
    rows: list[tuple[str, str, float, float, str]] = []
    for name, hypothesis in hypotheses.items():
        if not hypothesis.words:
            continue
        file, channel, begin, end = recordings.segments[name]
        times = begin + word_times(hypothesis, end - begin, frame_shift)
        for word, start, stop in zip(hypothesis.words, times[:-1], times[1:]):
            if word.lower() not in dropped:
                rows.append((file, channel, float(start), float(stop - start), word))
    rows.sort(key=lambda row: row[:3])
    return [f"{file} {channel} {begin:.3f} {duration:.3f} {word}" for file, channel, begin, duration, word in rows]
