# SPDX-License-Identifier: Apache-2.0
"""Settings of ``mpq rescore nbest``, and those of all rescoring: what a path's new cost is, and in what context."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.settings import setting

if TYPE_CHECKING:
    from kaldi_mpq.rescore.fusion import Fusion

__all__ = ["ContextSettings", "FusionSettings", "NbestSettings"]


@dataclass(frozen=True, kw_only=True)
class FusionSettings:
    """Which language models take part and with what weights: `FusionSettings.make_fusion` puts them together."""

    lm: Path | None = setting(None, help="LM directory, model.mpq or n-gram; none is needed with --test true")
    weight: float = setting(0.5, help="w, weight of --lm, 0 to 1")
    old_weight: float | None = setting(None, help="weight of the old LM that is taken out; default: w")
    source_lm: Path | None = setting(None, help="density ratio: LM of the source domain, taken off with weight mu")
    mu: float = setting(0.3, help="density ratio: weight of --source-lm, 0 or more")
    rho: float = setting(0.0, help="score added for every word")
    fusion: Path | None = setting(
        None, help="YAML file of old_weight, word_bonus and terms: [{lm, weight}, ...], in the place of all these"
    )
    kernel: str = setting(
        "auto",
        help="packed LMs: auto and packed keep weights packed (auto: where it can), packed8 multiplies them with 8-bit "
        "activations instead of 16, torch unpacks them",
        choices=("auto", "packed", "packed8", "torch"),
    )
    denominator: str = setting(
        "exact",
        help="normaliser of packed LMs: cheap takes it from 8-bit activations, faster with words of at most 4 bits, "
        "off by some thousandths of a nat; words' own logits are as with exact",
        choices=("exact", "cheap"),
    )
    normalize: bool = setting(True, help="false: logits are log-probabilities, for LMs trained to normalise themselves")

    def check_fusion(self) -> None:
        """Raise ConfigError for weights out of range and for settings that exclude each other."""
        if not 0.0 <= self.weight <= 1.0:
            raise ConfigError("bad value for weight", expected="a number from 0 to 1", found=self.weight,
                              hint="--fusion takes any weights")  # fmt: skip
        if not math.isfinite(self.rho):
            raise ConfigError("bad value for rho", expected="a finite number", found=self.rho)
        for name in ("mu", "old_weight"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ConfigError(f"bad value for {name}", expected="a number not below 0", found=value)
        defaults = {"lm": None, "weight": 0.5, "old_weight": None, "source_lm": None, "mu": 0.3, "rho": 0.0}
        changed = [name for name, value in defaults.items() if getattr(self, name) != value]
        if self.fusion is not None and changed:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
            raise ConfigError(f"--fusion and {options} exclude each other", hint="write it into the file")
        if self.source_lm is None and self.mu != defaults["mu"]:
            raise ConfigError("--mu is the weight of --source-lm, which is absent")
        if self.source_lm is not None and self.lm is None:
            raise ConfigError("--source-lm without --lm", hint="density ratio has both; --fusion can do with one")
        if self.source_lm is not None and self.source_lm == self.lm:
            raise ConfigError("--source-lm and --lm are the same", found=self.lm)

    def make_fusion(self) -> Fusion:
        """Return what the settings mean.

        Raises:
          MissingInputError, ConfigError: no such file, or a bad one.
        """
        from kaldi_mpq.rescore.fusion import Fusion, Term

        if self.fusion is not None:
            return Fusion.read(self.fusion)
        if self.lm is None:
            raise ConfigError("no language model", expected="--lm or --fusion")
        if self.source_lm is not None:
            return Fusion.density_ratio(self.lm, self.weight, self.source_lm, self.mu, self.rho, self.old_weight)
        old_weight = self.weight if self.old_weight is None else self.old_weight
        return Fusion(old_weight, (Term(self.lm, self.weight),), self.rho)


@dataclass(frozen=True, kw_only=True)
class ContextSettings(FusionSettings):
    """What language models have read before an utterance."""

    context: str = setting(
        "utterance",
        help="what the LM has read before an utterance: nothing, the best hypotheses of its side, or of all sides",
        choices=("utterance", "side", "conversation"),
    )
    data: Path | None = setting(
        None, help="--context: data directory whose utt2spk, segments, reco2file_and_channel say what follows what"
    )
    context_window: int = setting(70, help="--context: words that a transformer sees, as --window of its training")

    def check_context(self) -> None:
        """Raise ConfigError for settings that do not fit together."""
        if not self.context_window > 0:
            raise ConfigError("bad value for context_window", expected="a number above 0", found=self.context_window)
        if (self.data is None) != (self.context == "utterance"):
            raise ConfigError("--context side or conversation and --data need each other")


@dataclass(frozen=True)
class NbestSettings(ContextSettings):
    """Rescore the N best paths of every lattice of a Kaldi decode directory.

    Graph costs become g - w OLD + w NEW on every path, or what --fusion says; acoustic costs, transition-ids and keys
    stay. Writes lat.J.gz for each lat.J.gz read. What cannot be rescored goes through unchanged, is counted, and named
    in the log.
    """

    in_dir: Path = setting(help="decode directory with lat.J.gz and num_jobs", positional=True)
    out_dir: Path = setting(help="decode directory to write", positional=True)
    old_lang: Path | None = setting(None, help="lang directory of the LM whose scores are in the lattices")
    old_lm: str = setting(
        "auto", help="old LM: auto (G.carpa, else G.fst), carpa, fst, or a G.fst, G.carpa or ARPA file"
    )
    n: int = setting(10, help="paths per lattice")
    inv_acwt: float = setting(10.0, help="1 / acoustic scale for choosing the N best")
    lattice_beam: float | None = setting(
        None, help="prune lattices to this beam before the search; default: no pruning"
    )
    backend: str = setting(
        "auto", help="lattice operations: auto is k2 where it imports", choices=("auto", "k2", "native")
    )
    use_phi: bool = setting(
        False, help="the old LM backs off only where it must; false: its cheapest path, as Kaldi's default"
    )
    check_old_lm: bool = setting(True, help="warn if the old LM seems not to be the one in the first lattices")
    job: int | None = setting(None, help="rescore lat.JOB.gz only; default: all jobs, one after the other")
    test: bool = setting(False, help="write the N best with their scores unchanged: a check of the plumbing")
    keep_ali: bool = setting(True, help="keep transition-ids; without them no word times can be had")
    keep_scores: bool = setting(
        False, help="write scores.J.npz too: every hypothesis's costs under every LM, for mpq score tune"
    )
    batch_tokens: int = setting(8192, help="distinct histories in memory at a time")
    threads: int = setting(0, help="CPU threads; 0: torch's own choice")
    device: str = setting("auto", help="cpu, cuda, or auto: cuda where there is one")
    strict: bool = setting(False, help="fail, after writing everything, if any utterance went through unchanged")

    def __post_init__(self) -> None:
        self.check_fusion()
        self.check_context()
        for name in ("n", "inv_acwt", "batch_tokens"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"bad value for {name}", expected="a number above 0", found=getattr(self, name))
        needed = [] if self.lm is not None or self.fusion is not None else ["lm"]
        needed += ["old_lang"] if self.old_lang is None else []
        if needed and not self.test:
            raise ConfigError(f"missing setting(s) {', '.join(needed)}", hint="only --test true does without")
        if self.context != "utterance" and self.test:
            raise ConfigError("--context has no LM to tell it to with --test true")
        if self.keep_scores and self.test:
            raise ConfigError("--keep-scores has no scores to keep with --test true")
        if self.in_dir.resolve() == self.out_dir.resolve():
            raise ConfigError("output directory is the input directory", found=self.in_dir, hint="choose another one")
