# SPDX-License-Identifier: Apache-2.0
"""Settings of ``mpq rescore nbest``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.settings import setting

__all__ = ["NbestSettings"]


@dataclass(frozen=True)
class NbestSettings:
    """Rescore the N best paths of every lattice of a Kaldi decode directory.

    Graph costs become g - w OLD + w NEW on every path; acoustic costs, transition-ids and keys stay. Writes lat.J.gz
    for each lat.J.gz read. What cannot be rescored goes through unchanged, is counted, and named in the log.
    """

    in_dir: Path = setting(help="decode directory with lat.J.gz and num_jobs", positional=True)
    out_dir: Path = setting(help="decode directory to write", positional=True)
    lm: Path | None = setting(None, help="LM directory or model.mpq; none is needed with --test true")
    old_lang: Path | None = setting(None, help="lang directory of the LM whose scores are in the lattices")
    old_lm: str = setting(
        "auto", help="old LM: auto (G.carpa, else G.fst), carpa, fst, or a G.fst, G.carpa or ARPA file"
    )
    weight: float = setting(0.5, help="w, weight of the new LM against the old one, 0 to 1")
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
    job: int | None = setting(None, help="rescore lat.JOB.gz only; default: all jobs, one after the other")
    test: bool = setting(False, help="write the N best with their scores unchanged: a check of the plumbing")
    keep_ali: bool = setting(True, help="keep transition-ids; without them no word times can be had")
    batch_tokens: int = setting(8192, help="distinct histories in memory at a time")
    threads: int = setting(0, help="CPU threads; 0: torch's own choice")
    device: str = setting("auto", help="cpu, cuda, or auto: cuda where there is one")
    strict: bool = setting(False, help="fail, after writing everything, if any utterance went through unchanged")

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight <= 1.0:
            raise ConfigError("bad value for weight", expected="a number from 0 to 1", found=self.weight)
        for name in ("n", "inv_acwt", "batch_tokens"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"bad value for {name}", expected="a number above 0", found=getattr(self, name))
        needed = [name for name in ("lm", "old_lang") if getattr(self, name) is None]
        if needed and not self.test:
            raise ConfigError(f"missing setting(s) {', '.join(needed)}", hint="only --test true does without")
        if self.in_dir.resolve() == self.out_dir.resolve():
            raise ConfigError("output directory is the input directory", found=self.in_dir, hint="choose another one")
