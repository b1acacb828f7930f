# SPDX-License-Identifier: Apache-2.0
"""Settings of ``mpq search``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.precision import CANDIDATE_BITS
from kaldi_mpq.search.training_settings import TrainingSettings
from kaldi_mpq.settings import setting

__all__ = ["METHODS", "SearchSettings"]

METHODS = ("kl", "hessian", "nas", "csq", "diffq", "uniform", "random", "inverse")
_BUDGETS = ("budget", "ratio", "mean_bits", "uniform_bits")


@dataclass(frozen=True, kw_only=True)
class SearchSettings(TrainingSettings):
    """Find a bit width for every part of a trained LM, under a size of the packed file.

    Writes precision.json (for mpq fit --precision), sensitivity.tsv, search.json and bits.png into OUT. The same
    command goes on where it was interrupted; with another budget it reads the sensitivities that are there.
    """

    lm: Path = setting(help="directory of the float LM (mpq lm train)", positional=True)
    out: Path = setting(help="directory to write", positional=True)
    data: Path = setting(Path("data/lm"), help="directory that mpq text wrote")
    method: str = setting(
        "kl",
        help="divergence from the float LM; Hessian trace; architecture search; bit-level sparsification, which fits "
        "the weights too; the package diffq, to compare with; one width for all; random widths; the wrong way round",
        choices=METHODS,
    )
    units: str = setting(
        "gate",
        help="what has a width of its own: sublayer (a gate with both its matrices, an attention or feed-forward "
        "sub-layer), gate (a gate of one matrix, a transformer's matrix), matrix, or rowsN: blocks of N rows",
    )
    candidates: tuple[int, ...] = setting((1, 2, 4, 8), help="widths to choose from: 1, 2, 4, 8, 16, 32")
    budget: int | None = setting(None, help="largest size of the packed file in bytes, header and scales included")
    ratio: float | None = setting(None, help="instead: times smaller than the parameters in float32")
    mean_bits: float | None = setting(None, help="instead: bits of the file per parameter")
    uniform_bits: int | None = setting(
        None, help="instead: as large as the file with this width everywhere", choices=CANDIDATE_BITS
    )
    floor: tuple[str, ...] = setting((), help="smallest widths: BITS, or UNIT=BITS where UNIT may hold * and ?")
    fixed: tuple[str, ...] = setting((), help="widths that are given: UNIT=BITS where UNIT may hold * and ?")
    granularity: str = setting("row", help="weights that share a scale", choices=("row", "tensor", "block"))
    block: int = setting(0, help="block: columns that share a scale")
    sample: str = setting("train", help="text to measure on", choices=("train", "dev"))
    sample_tokens: int = setting(1000, help="kl: about how many tokens of it, drawn by --seed")
    hessian_tokens: int = setting(400, help="hessian: the same; memory is some 40 bytes times tokens times words")
    batch_tokens: int = setting(500, help="tokens computed at a time")
    context: str = setting(
        "utterance",
        help="what precedes an utterance: nothing, or its conversation",
        choices=("utterance", "conversation"),
    )
    prototypes: tuple[str, ...] = setting(
        (), help="BITS=DIR: quantized weights of mpq fit --bits BITS; default: the float weights rounded"
    )
    kl: str = setting(
        "vocabulary",
        help="kl: over all words, or as printed, over the words of the text",
        choices=("vocabulary", "word"),
    )
    around: str = setting(
        "auto",
        help="kl: the other parts while one is measured: float as printed, all at one width, or auto: at the widths "
        "whose files are next to the budget, and of what follows from each, and uniform, the best one",
        choices=("auto", "float", "1", "2", "4", "8"),
    )
    probes: int = setting(50, help="hessian: random vectors for each part at most")
    probe: str = setting("rademacher", help="hessian: their distribution", choices=("rademacher", "gaussian"))
    tolerance: float = setting(0.1, help="hessian: fewer, once the relative standard error is not larger")
    trace: str = setting("mean", help="hessian: trace per weight, or as printed, total", choices=("mean", "total"))
    inverse_of: str = setting("kl", help="inverse: the sensitivities to turn round", choices=("kl", "hessian"))
    reuse: Path | None = setting(None, help="directory of another search of this LM, whose sensitivities are taken")
    seed: int = setting(1, help="seed of the sample, of probes and of random widths")
    device: str = setting("auto", help="cpu, cuda, or auto: cuda where there is one")
    threads: int = setting(0, help="CPU threads; 0: torch's own choice")
    plot: bool = setting(True, help="draw bits.png, and budgets.png of what was measured")

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in _BUDGETS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ConfigError(
                "how large may the file be?",
                expected="one of --budget BYTES, --ratio R, --mean-bits B, --uniform-bits N",
                found=", ".join(given) or "none",
            )
        for name in (*given, "sample_tokens", "hessian_tokens", "batch_tokens", "tolerance"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"bad value for {name}", expected="a number above 0", found=getattr(self, name))
        if self.probes < 2:
            raise ConfigError("bad value for probes", expected="at least 2", found=self.probes)
        if not self.candidates or not set(self.candidates) <= set(CANDIDATE_BITS):
            raise ConfigError("bad value for candidates", expected=f"some of {CANDIDATE_BITS}", found=self.candidates)
        if self.seed < 0 or self.threads < 0:
            raise ConfigError("bad value for seed or threads", expected="not below 0", found=(self.seed, self.threads))
