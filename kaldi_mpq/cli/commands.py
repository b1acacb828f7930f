# SPDX-License-Identifier: Apache-2.0
"""The table of commands: for each its settings and the one library function it calls.

Both are named, not imported, so that ``--help`` needs neither torch nor k2.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

__all__ = ["COMMANDS", "Command"]


@dataclass(frozen=True)
class Command:
    """A command ``mpq NAME``.

    Args:
      settings: ``module:class`` of its settings dataclass (imports nothing heavy).
      function: ``module:function``; takes the settings, returns the text for stdout or None.
    """

    settings: str
    function: str

    def settings_class(self) -> type:
        """Return the settings dataclass; the first line of its docstring is the command's help."""
        return _load(self.settings)

    def run(self, settings: Any) -> str | None:
        """Call the command's function."""
        return _load(self.function)(settings)


COMMANDS: dict[str, Command] = {
    "text": Command("kaldi_mpq.text.settings:TextSettings", "kaldi_mpq.text.prepare:prepare_text"),
    "lm train": Command("kaldi_mpq.lm.settings:TrainSettings", "kaldi_mpq.lm.train:train_lm"),
    "lm ppl": Command("kaldi_mpq.lm.settings:PplSettings", "kaldi_mpq.pack.ppl:report_perplexity"),
    "lm ngram": Command("kaldi_mpq.lm.settings:NgramSettings", "kaldi_mpq.lm.ngram:train_ngram"),
    "lm import": Command("kaldi_mpq.lm.settings:ImportSettings", "kaldi_mpq.lm.imports:import_lm"),
    "lm export-kaldi": Command(
        "kaldi_mpq.lm.settings:ExportSettings", "kaldi_mpq.lm.kaldi_rnnlm.exporter:export_kaldi_rnnlm"
    ),
    "search": Command("kaldi_mpq.search.settings:SearchSettings", "kaldi_mpq.search.run:search_bits"),
    "fit": Command("kaldi_mpq.fit.settings:FitSettings", "kaldi_mpq.fit.run:fit_lm"),
    "pack": Command("kaldi_mpq.pack.settings:PackSettings", "kaldi_mpq.pack.write:pack_lm"),
    "sweep": Command("kaldi_mpq.sweep.settings:SweepSettings", "kaldi_mpq.sweep.run:sweep"),
    "sweep cell": Command("kaldi_mpq.sweep.settings:CellSettings", "kaldi_mpq.sweep.cell:run_cell"),
    "sweep table": Command("kaldi_mpq.sweep.settings:SweepTableSettings", "kaldi_mpq.sweep.table:print_table"),
    "rescore nbest": Command("kaldi_mpq.rescore.settings:NbestSettings", "kaldi_mpq.rescore.run:rescore_nbest"),
    "rescore lattice": Command(
        "kaldi_mpq.rescore.lattice_settings:LatticeSettings", "kaldi_mpq.rescore.lattice_run:rescore_lattices"
    ),
    "score wer": Command("kaldi_mpq.score.settings:WerSettings", "kaldi_mpq.score.run:score_wer"),
    "score tune": Command("kaldi_mpq.score.settings:TuneSettings", "kaldi_mpq.score.tune:tune_weights"),
    "score table": Command("kaldi_mpq.score.settings:TableSettings", "kaldi_mpq.score.table:write_table"),
}


def _load(name: str) -> Any:
    module, attribute = name.split(":")
    return getattr(importlib.import_module(module), attribute)
