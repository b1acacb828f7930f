# SPDX-License-Identifier: Apache-2.0
"""``mpq lm ppl`` of a backward model."""

from __future__ import annotations

import shutil

import pytest
import torch

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.lm.checkpoint import save_lm
from kaldi_mpq.lm.model import ModelConfig, build
from kaldi_mpq.lm.settings import PplSettings
from kaldi_mpq.pack.ppl import report_perplexity
from kaldi_mpq.text.vocab import Vocabulary


@pytest.fixture
def make_lm(sample, tmp_path):
    """Return a function that makes the directory of a random model, the same weights in both directions."""

    def make(backward: bool):
        torch.manual_seed(0)
        source = sample / "data/lang_tg/words.txt"
        words = Vocabulary.read(source)
        out = tmp_path / ("backward" if backward else "forward")
        model = build(ModelConfig("lstm", len(words), words.bos, words.eos, words.unk, 8, 8, 1, backward=backward))
        with torch.no_grad():
            model.embedding.weight.mul_(20)  # words matter
        save_lm(out, model, {})
        shutil.copy(source, out / "words.txt")
        return out

    return make


def test_a_backward_model_reads_the_text_from_its_end(sample, make_lm, tmp_path):
    """It says of a text what the same weights, forward, say of the text written backwards; beside an n-gram nothing."""
    text = tmp_path / "text"
    lines = [line.split() for line in (sample / "data/dev/text").read_text().splitlines()[:30]]
    text.write_text("".join(" ".join(line) + "\n" for line in lines))
    turned = tmp_path / "turned"
    turned.write_text("".join(" ".join([line[0], *line[:0:-1]]) + "\n" for line in lines))
    backward, forward = make_lm(True), make_lm(False)
    assert report_perplexity(PplSettings(backward, text)) == report_perplexity(PplSettings(forward, turned))
    assert report_perplexity(PplSettings(backward, text)) != report_perplexity(PplSettings(forward, text))
    ngram = sample / "data/local/lm/ami.o3g.kn.arpa.gz"
    with pytest.raises(ConfigError, match="backward model and an n-gram"):
        report_perplexity(PplSettings(backward, text, ngram=ngram))
