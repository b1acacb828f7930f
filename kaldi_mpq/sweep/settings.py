# SPDX-License-Identifier: Apache-2.0
"""Settings of ``mpq sweep``, ``mpq sweep cell`` and ``mpq sweep table``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.settings import setting

__all__ = ["CellSettings", "SweepSettings", "SweepTableSettings"]


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """Search, fit, pack and measure many times: methods, budgets, fits, seeds; a job for each cell of the table.

    Writes cells/CELL/row.json, search/SEARCH, log/CELL.log, table.md, table.tsv, table.json and pareto.png into OUT;
    the table follows every cell. The same command goes on after an interruption. docs/pipeline.md: the file of cells.
    """

    lm: Path = setting(help="directory of the float LM (mpq lm train)", positional=True)
    out: Path = setting(help="directory to write", positional=True)
    data: Path = setting(Path("data/lm"), help="directory that mpq text wrote")
    cells: tuple[dict, ...] = setting(
        help="in the YAML file: blocks of method, budget, fit, seed and options of mpq search; a list means each"
    )
    fits: dict | None = setting(
        None,
        help="in the YAML file: options of mpq fit by the name of the fit; default: round, ste and admm as they are",
    )
    search: dict | None = setting(None, help="in the YAML file: options of mpq search for every cell")
    seeds: tuple[int, ...] = setting(
        (1, 2, 3), help="seeds of search and fit of cells that name none; the first ones go first"
    )
    ngram: Path | None = setting(None, help="directory with the n-gram's ppl.json: a line in the picture, a row above")
    only: tuple[str, ...] = setting((), help="run these cells only: names, may hold * and ?")
    cmd: str | None = setting(
        None, help="job runner, called as run.pl is: 'queue.pl --mem 4G', 'slurm.pl'; default: local/run_jobs.sh"
    )
    nj: int = setting(1, help="cells at a time")
    threads: int = setting(1, help="CPU threads of a cell")
    device: str = setting("auto", help="cpu, cuda, or auto: cuda where there is one")
    keep_weights: bool = setting(False, help="keep each cell's float32 copy beside model.mpq")
    dry_run: bool = setting(False, help="print the cells in their order, run none")

    def __post_init__(self) -> None:
        if not self.cells:
            raise ConfigError(
                "no cells", expected="a YAML file with the key cells", hint="--config conf/sweep/NAME.yaml"
            )
        if self.nj < 1 or self.threads < 0:
            raise ConfigError(
                "bad value for nj or threads", expected="1 or more, 0 or more", found=(self.nj, self.threads)
            )
        if not self.seeds or min(self.seeds) < 0:
            raise ConfigError("bad value for seeds", expected="numbers not below 0", found=self.seeds)


@dataclass(frozen=True)
class CellSettings:
    """Run one cell of a sweep that has been started; what is finished is not done again."""

    out: Path = setting(help="directory of mpq sweep", positional=True)
    name: str = setting(help="of the cell", positional=True)


@dataclass(frozen=True)
class SweepTableSettings:
    """Print the table of what sweeps have finished so far, at any moment."""

    outs: tuple[Path, ...] = setting((), help="directories of mpq sweep", positional=True)
    test_set: str | None = setting(
        None, help="set of the last column and the picture; default: eval, else the last one"
    )
    into: Path | None = setting(
        None, help="file whose lines between <!-- sweep:start --> and <!-- sweep:end --> it replaces"
    )
    plot: Path | None = setting(None, help="picture to write: perplexity against megabytes (.png, .svg, .pdf)")
