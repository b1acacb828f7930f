# SPDX-License-Identifier: Apache-2.0
"""Imported RNNLMs against Kaldi's rnnlm-sentence-probs: small random networks of every kind, and the testbed's."""

from __future__ import annotations

import numpy as np
import pytest

from kaldi_mpq.lm.kaldi_rnnlm.nnet3 import read_network
from kaldi_mpq.text.vocab import read_words
from tests.lm.kaldi_rnnlm.networks import TOYS, UNK, WORDS, text_of

SENTENCES = [[1, 2, 3], [UNK, 8, 8, 7, 1], [5], [4, 3, 2, 1, 1, 1, 1, 6, 7, 8]]


@pytest.mark.parametrize("kind", TOYS)
def test_small_networks_score_as_in_kaldi(kind, imported, our_scores, kaldi_scores, assert_close, tmp_path):
    """lstm-layer, fast-lstm-layer and affine layers in any order score every word as Kaldi, normalised or not."""
    directory = TOYS[kind]().write(tmp_path / "rnnlm")
    model = imported(directory)
    for normalize in (True, False):
        assert_close(our_scores(model, SENTENCES, normalize), kaldi_scores(directory, SENTENCES, normalize))


def test_networks_of_nnet3_init_score_as_in_kaldi(kaldi, imported, our_scores, kaldi_scores, assert_close, tmp_path):
    """So does a binary network with the very component types that xconfig's layers make, and word features."""
    toy = TOYS["slow"]()
    directory = toy.write(tmp_path / "rnnlm")
    natural = {"AffineComponent": ("NaturalGradientAffine", "input-dim={i} output-dim={o}")}
    natural["PerElementScaleComponent"] = ("NaturalGradientPerElementScale", "dim={o} param-mean=0 param-stddev=1")
    config = [*toy.nodes, f"output-node name=output input={toy.top}"]
    for name, part in read_network(directory / "final.raw").components.items():
        if part.type in natural:
            kind, options = natural[part.type]
            shape = next(iter(part.values.values())).shape
            config.append(f"component name={name} type={kind}Component {options.format(i=shape[-1], o=shape[0])}")
        elif part.type == "ElementwiseProductComponent":
            config.append(f"component name={name} type={part.type} input-dim=12 output-dim=6")
        else:
            config.append(f"component name={name} type={part.type} dim={part.values['Dim']}")
    (tmp_path / "config").write_text("\n".join(config) + "\n")
    kaldi(f"nnet3-init --srand=3 {tmp_path}/config {directory}/final.raw")
    (directory / "word_embedding.final.mat").unlink()
    features = toy.random.integers(0, 4, len(WORDS))
    (directory / "word_feats.txt").write_text("".join(f"{n}\t{k} 0.5 4 1.25\n" for n, k in enumerate(features)))
    (directory / "feat_embedding.final.mat").write_text(text_of(toy.matrix(5, toy.dim)))
    model = imported(directory)
    assert model.config.peephole
    for normalize in (True, False):
        assert_close(our_scores(model, SENTENCES, normalize), kaldi_scores(directory, SENTENCES, normalize))


def test_the_testbeds_rnnlm_scores_as_in_kaldi(
    testbed, shared, imported, our_scores, kaldi_scores, assert_close, tmp_path
):
    """60 dev sentences through the 10.5 M parameter RNNLM: each word to 1e-4, normalised or not."""
    directory = testbed / "exp" / "rnnlm_lstm"
    model = imported(directory)
    words = tmp_path / "lm" / "words.txt"
    assert words.read_bytes() == (testbed / "data" / "lang_tg" / "words.txt").read_bytes()
    ids = {word: number for number, word in enumerate(read_words(words))}
    lines = (shared / "data" / "ami" / "dev.txt").read_text().splitlines()[:60]
    sentences = [[ids.get(word, model.config.unk) for word in line.split()[1:]] for line in lines]
    for normalize in (True, False):
        ours = our_scores(model, sentences, normalize)
        assert_close(ours, kaldi_scores(directory, sentences, normalize))
    assert np.mean(np.concatenate(ours)) != pytest.approx(np.mean(np.concatenate(our_scores(model, sentences, True))))
