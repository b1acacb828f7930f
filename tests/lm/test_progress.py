# SPDX-License-Identifier: Apache-2.0
"""What a log file says about a training."""

from __future__ import annotations

import logging
import re

from kaldi_mpq.lm import progress
from kaldi_mpq.lm.progress import TrainingProgress


def test_a_log_file_gets_the_mean_loss_per_token(monkeypatch, caplog):
    """Without a terminal a line now and then tells steps, the mean loss since the last line, and the speed."""
    monkeypatch.setattr(progress, "_LOG_EVERY_SECONDS", 0.0)
    caplog.set_level(logging.INFO, logger="kaldi_mpq")
    with TrainingProgress(10, 4, quiet=False) as shown:
        shown.step(2.0, 30)
        shown.step(5.0, 10)
    lines = [record.getMessage() for record in caplog.records]
    shapes = [re.sub(r"\d+ tokens/s", "N tokens/s", line) for line in lines]
    assert shapes == ["step 5/10: loss 2.000, N tokens/s", "step 6/10: loss 5.000, N tokens/s"]
    assert shown.tokens_per_second > 0


def test_a_quiet_one_says_nothing(monkeypatch, caplog):
    """Only the first process tells; a batch without tokens harms nobody."""
    monkeypatch.setattr(progress, "_LOG_EVERY_SECONDS", 0.0)
    caplog.set_level(logging.INFO, logger="kaldi_mpq")
    with TrainingProgress(10, 0, quiet=True) as shown:
        shown.step(0.0, 0)
        shown.step(2.0, 30)
    assert shown.done == 2
    assert not caplog.records
