# SPDX-License-Identifier: Apache-2.0
"""Settings of ``mpq score wer``, ``mpq score table`` and ``mpq score tune``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.settings import setting

__all__ = ["TableSettings", "TuneSettings", "WerSettings"]

TUNABLE = ("old_weight", "weights", "word_bonus", "lmwt")


@dataclass(frozen=True)
class WerSettings:
    """Word error rate of a system: acoustic weight and insertion penalty chosen on dev, applied to eval.

    The best path of a lattice is the one with the least  a / LMWT + g + wip * words  (acoustic cost a, graph cost g),
    as in Kaldi's score_kaldi_wer.sh and, with the same optimum, swbd's score_basic.sh. (swbd's score_sclite.sh has
    a + LMWT * g + wip * words, where the penalty counts LMWT times less; AMI's score_asclite.sh has no penalty and
    takes the words of least Bayes risk.) An utterance without a usable lattice counts as deleted; Kaldi's compute-wer
    leaves it out.

    Words that Kaldi's recipes drop before scoring, for --ignore-words:
      swbd: [noise],[laughter],[vocalized-noise],<unk>,%hesitation
      ami:  <unk>,ach,ah,eee,eh,er,ew,ha,hee,hm,hmm,huh,mm,oof,uh,um
    """

    out: Path = setting(
        help="directory for wer.json and, for each set, alignments and sclite's reports", positional=True
    )
    words: Path = setting(help="words.txt of the lattices")
    dev: str = setting(help="DATADIR=DECODEDIR of the set on which the point of the sweep is chosen")
    eval: tuple[str, ...] = setting(
        (), help="DATADIR=DECODEDIR of a set to which that point is applied; may be repeated"
    )
    mode: str = setting(
        "text",
        help="text: DATADIR/text; stm: DATADIR/stm by word times, through DATADIR/glm if there",
        choices=("text", "stm"),
    )
    min_lmwt: int = setting(7, help="smallest LMWT, the divisor of acoustic costs")
    max_lmwt: int = setting(17, help="largest LMWT")
    word_ins_penalty: tuple[float, ...] = setting((0.0, 0.5, 1.0), help="costs added for each word")
    ignore_words: tuple[str, ...] = setting(
        (), help="words to drop before scoring; from the hypotheses only in mode stm"
    )
    case: str = setting(
        "fold",
        help="fold: upper and lower case are the same, as for sclite; keep: they differ",
        choices=("fold", "keep"),
    )
    scorer: str = setting(
        "auto", help="auto: sclite where it is found, else kaldialign", choices=("auto", "sclite", "kaldialign")
    )
    frame_shift: float | None = setting(
        None, help="seconds per frame of the lattices; default: as Kaldi finds it beside DECODEDIR"
    )

    def __post_init__(self) -> None:
        if not 0 < self.min_lmwt <= self.max_lmwt:
            raise ConfigError(
                "bad range of LMWT", expected="0 < min-lmwt <= max-lmwt", found=f"{self.min_lmwt} to {self.max_lmwt}"
            )
        if not self.word_ins_penalty:
            raise ConfigError("no word insertion penalty", hint="0.0 is none")
        if self.frame_shift is not None and not self.frame_shift > 0:
            raise ConfigError("bad value for frame_shift", expected="seconds above 0", found=self.frame_shift)
        if self.mode == "stm" and self.scorer == "kaldialign":
            raise ConfigError("only sclite can score an stm", hint="use --mode text")


@dataclass(frozen=True)
class TableSettings:
    """A Markdown table of systems: bits, bytes, perplexities, word error rates, significance.

    A row is NAME=PATH[,PATH...]. The first directory among the paths that has a wer.json (mpq score wer), ppl.json or
    size.json gives it; a path that is a file is the model, whose size is then the file's; bits:N and bytes:N say what
    cannot be measured. p is that of the matched pairs test (MAPSSWE) against the row that --reference names.
    """

    rows: tuple[str, ...] = setting(help="NAME=PATH[,PATH...], one for each system", positional=True)
    reference: tuple[str, ...] = setting((), help="names of rows to test the others against; a column of p for each")
    test_set: str | None = setting(None, help="set that p and the picture are about; default: the first after dev")
    into: Path | None = setting(
        None, help="file whose text between <!-- results:start --> and <!-- results:end --> the table replaces"
    )
    plot: Path | None = setting(None, help="picture of word error rate against megabytes to write (.png, .svg, .pdf)")


@dataclass(frozen=True)
class TuneSettings:
    """Weights of the language models that give the least word error rate on dev, from scores that were kept.

    Reads scores.J.npz of a directory that mpq rescore nbest --keep-scores true wrote; no language model is run. Over
    all hypotheses it looks for the w_old, w_k, rho and LMWT with which those of least

        a / LMWT + g - w_old OLD + sum_k w_k NEW_k - rho words

    have the fewest errors. rho and a word insertion penalty are one thing with opposite signs: score what was rescored
    with the file of weights at a penalty of 0. Writes tune.json, fusion.yaml for mpq rescore ... --fusion, tune.png.
    """

    out: Path = setting(help="directory to write", positional=True)
    words: Path = setting(help="words.txt of the lattices")
    dev: str = setting(help="DATADIR=DECODEDIR with DATADIR/text and DECODEDIR/scores.J.npz")
    search: tuple[str, ...] = setting(
        TUNABLE, help=f"what to look for, of {', '.join(TUNABLE)}; the rest stays as in the rescoring"
    )
    tie_old: bool = setting(False, help="w_old is the sum of the w_k, all from 0: as one model replaces the old one")
    min_weight: float = setting(-1.0, help="smallest w_k; w_old starts at 0")
    max_weight: float = setting(1.5, help="largest w_k, and w_old")
    max_bonus: float = setting(2.0, help="largest rho; the smallest is its negative")
    min_lmwt: int = setting(7, help="smallest LMWT, the divisor of acoustic costs")
    max_lmwt: int = setting(17, help="largest LMWT; without lmwt in --search it is the rescoring's inv_acwt")
    starts: int = setting(10, help="random starts besides the weights of the rescoring")
    seed: int = setting(1, help="seed of the random starts")
    ignore_words: tuple[str, ...] = setting((), help="words to drop before scoring, as for mpq score wer")
    case: str = setting("fold", help="fold: upper and lower case are the same; keep: they differ",
                        choices=("fold", "keep"))  # fmt: skip
    scorer: str = setting(
        "kaldialign", help="who counts the errors of each hypothesis", choices=("auto", "sclite", "kaldialign")
    )
    plot: bool = setting(True, help="write tune.png: word error rate against each weight, the others at their best")

    def __post_init__(self) -> None:
        unknown = [name for name in self.search if name not in TUNABLE]
        if unknown or not self.search:
            raise ConfigError("bad value for search", expected=f"some of {', '.join(TUNABLE)}", found=unknown)
        if self.tie_old and ("old_weight" not in self.search or "weights" not in self.search):
            raise ConfigError("--tie-old needs both old_weight and weights in --search")
        if not 0 < self.min_lmwt <= self.max_lmwt:
            raise ConfigError(
                "bad range of LMWT", expected="0 < min-lmwt <= max-lmwt", found=f"{self.min_lmwt} to {self.max_lmwt}"
            )
        if not self.min_weight <= self.max_weight or self.max_weight < 0:
            found = f"{self.min_weight} to {self.max_weight}"
            raise ConfigError("bad range of weights", expected="min-weight <= max-weight, 0 <= max-weight", found=found)
        if not (self.max_bonus >= 0 and self.starts >= 0):
            raise ConfigError("bad value for max_bonus or starts", expected="a number not below 0")
