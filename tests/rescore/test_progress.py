# SPDX-License-Identifier: Apache-2.0
"""What a job's log says about rescoring while it goes on."""

from __future__ import annotations

import logging
import re

import pytest

from kaldi_mpq.rescore import progress
from kaldi_mpq.rescore.lattice_run import rescore_lattices
from kaldi_mpq.rescore.lattice_settings import LatticeSettings
from kaldi_mpq.rescore.progress import RescoringProgress
from kaldi_mpq.rescore.run import rescore_nbest
from kaldi_mpq.rescore.settings import NbestSettings


def test_a_log_file_says_how_many_utterances_are_over(monkeypatch, caplog):
    """Without a terminal a line now and then tells utterances that are over, those that were read, and the speed."""
    monkeypatch.setattr(progress, "_LOG_EVERY_SECONDS", 0.0)
    caplog.set_level(logging.INFO, logger="kaldi_mpq")
    with RescoringProgress("lat.3.gz") as shown:
        shown.read(5)
        shown.done(2)
    lines = [re.sub(r"[\d.]+ a second", "N a second", record.getMessage()) for record in caplog.records]
    assert lines == [f"lat.3.gz: {done} of 5 utterances read, N a second" for done in (0, 2)]


@pytest.mark.parametrize("lattices", [False, True])
def test_rescoring_counts_every_utterance(decode, lang, lm, tmp_path, monkeypatch, caplog, lattices):
    """When a job is over, as many utterances have been counted as there were, in both ways of rescoring."""
    monkeypatch.setattr(progress, "_LOG_EVERY_SECONDS", 0.0)
    caplog.set_level(logging.INFO, logger="kaldi_mpq")
    usual = {"in_dir": decode, "out_dir": tmp_path / "out", "lm": lm, "old_lang": lang, "threads": 1, "job": 1}
    summary = rescore_lattices(LatticeSettings(**usual)) if lattices else rescore_nbest(NbestSettings(n=2, **usual))
    total = summary.split()[0]
    lines = [record.getMessage() for record in caplog.records if "utterances read" in record.getMessage()]
    assert int(total) > 0 and lines[-1].startswith(f"lat.1.gz: {total} of {total} utterances read")


def test_a_terminal_shows_a_bar(monkeypatch, capsys):
    """The bar belongs to the screen, not to the log."""
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with RescoringProgress("lat.3.gz") as shown:
        shown.read(2)
        shown.done(1)
        assert shown.bar is not None and shown.bar.tasks[0].completed == 1
