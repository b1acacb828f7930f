# SPDX-License-Identifier: Apache-2.0
"""Settings of ``mpq rescore lattice``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.rescore.settings import ContextSettings
from kaldi_mpq.settings import setting

__all__ = ["LatticeSettings"]


@dataclass(frozen=True)
class LatticeSettings(ContextSettings):
    """Rescore whole lattices of a Kaldi decode directory.

    Graph costs become g - w OLD + w NEW on every path, or what --fusion says; acoustic costs, transition-ids and keys
    stay. Paths that fall behind the best one by more than a beam are left out. Writes lat.J.gz for each lat.J.gz read.
    What cannot be rescored goes through unchanged, is counted, and named in the log.
    """

    in_dir: Path = setting(help="decode directory with lat.J.gz and num_jobs", positional=True)
    out_dir: Path = setting(help="decode directory to write", positional=True)
    old_lang: Path | None = setting(None, help="lang directory of the LM whose scores are in the lattices")
    old_lm: str = setting(
        "auto", help="old LM: auto (G.fst, else G.carpa), carpa, fst, or a G.fst, G.carpa or ARPA file"
    )
    old_reading: str = setting(
        "best",
        help="how G.fst backs off: best, its cheapest path, as in decoding; backoff, only where a word is missing, "
        "as in Kaldi's lattice rescoring: for lattices that come from that",
        choices=("best", "backoff"),
    )
    max_ngram_order: int = setting(
        4, help="histories that agree in their last words, one fewer than this, share a state; 0 or less: none do"
    )
    acwt: float = setting(0.1, help="acoustic scale for comparing paths")
    lattice_prune_beam: float = setting(8.0, help="paths further behind the best one are left out")
    max_arcs: int = setting(100_000, help="arcs of a rescored lattice, at most, once it has a complete path")
    growth_ratio: float = setting(1.5, help="growth of a lattice from one update of expected costs to the next")
    frontier: int = setting(16, help="arcs that a lattice asks for at a time; 1: exactly Kaldi's order, slower")
    exact: bool = setting(False, help="compose whole lattices: no beam, no limit of arcs; for small lattices")
    backward: bool = setting(False, help="all new LMs are backward ones; the old one was taken out before, or is too")
    text: bool = setting(False, help="write text lattices")
    job: int | None = setting(None, help="rescore lat.JOB.gz only; default: all jobs, one after the other")
    check_old_lm: bool = setting(True, help="warn if the old LM seems not to be the one in the first lattices")
    batch_tokens: int = setting(
        32768, help="LM states in memory at a time; when so many are in use, no lattice is begun and few go on"
    )
    threads: int = setting(0, help="CPU threads; 0: torch's own choice")
    device: str = setting("auto", help="cpu, cuda, or auto: cuda where there is one")
    strict: bool = setting(False, help="fail, after writing everything, if any utterance went through unchanged")

    def __post_init__(self) -> None:
        self.check_fusion()
        self.check_context()
        needed = [] if self.lm is not None or self.fusion is not None else ["lm"]
        needed += ["old_lang"] if self.old_lang is None else []
        if needed:
            raise ConfigError(f"missing setting(s) {', '.join(needed)}")
        for name in ("acwt", "max_arcs", "frontier", "batch_tokens"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ConfigError(f"bad value for {name}", expected="a number above 0", found=value)
        if not self.lattice_prune_beam >= 0:
            raise ConfigError("bad value for lattice_prune_beam", expected=">= 0", found=self.lattice_prune_beam)
        if not 1 < self.growth_ratio < math.inf:
            raise ConfigError("bad value for growth_ratio", expected="a number above 1", found=self.growth_ratio)
        if self.backward and self.context != "utterance":
            raise ConfigError("--context carries on forward LMs only", hint="mpq rescore nbest takes backward ones")
        if self.in_dir.resolve() == self.out_dir.resolve():
            raise ConfigError("output directory is the input directory", found=self.in_dir, hint="choose another one")
