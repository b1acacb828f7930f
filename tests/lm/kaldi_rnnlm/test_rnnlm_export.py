# SPDX-License-Identifier: Apache-2.0
"""Our LSTM as a Kaldi RNNLM directory: comes back the same, and Kaldi's programs score with it as we do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kaldi_mpq.errors import ConfigError, MissingInputError, VocabularyError
from kaldi_mpq.lm.checkpoint import load_lm, save_lm
from kaldi_mpq.lm.kaldi_rnnlm.exporter import export_kaldi_rnnlm
from kaldi_mpq.lm.model import build
from kaldi_mpq.lm.settings import ExportSettings

WORDS = ["<eps>", *(f"w{i}" for i in range(1, 20)), "<unk>", "<s>", "</s>"]
KINDS = {
    "tied": ("lstm", {}),
    "one layer": ("lstm", {"layers": 1}),
    "untied, projected": ("lstm-projected", {}),
    "untied": ("lstm", {"tied": False}),
    "projected to its own size": ("lstm", {"projected": True}),
    "peepholes": ("lstm-projected", {"peephole": True, "tied": True}),
    "one boundary symbol": ("lstm", {"bos": 21, "eos": 21}),
}


@pytest.fixture
def write_lm(make_model, tmp_path):
    """Return a function that writes an LM directory and returns its model."""

    def write(kind: str):
        name, changed = KINDS[kind]
        symbols = {key: value for key, value in changed.items() if key in ("bos", "eos")}
        model = make_model(name, **{key: value for key, value in changed.items() if key not in symbols})
        model.config = replace(model.config, **symbols)
        save_lm(tmp_path / "ours", model, {})
        (tmp_path / "ours" / "words.txt").write_text("".join(f"{word} {i}\n" for i, word in enumerate(WORDS)))
        return model

    return write


@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_exported_comes_back_bit_for_bit(kind, text, write_lm, imported, tmp_path):
    """Importing an exported LM gives the same configuration, tensors and words."""
    before = write_lm(kind)
    export_kaldi_rnnlm(ExportSettings(tmp_path / "ours", tmp_path / "rnnlm", text=text))
    after = imported(tmp_path / "rnnlm")
    assert after.config == before.config
    for name, tensor in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], tensor), name
    assert (tmp_path / "lm" / "words.txt").read_bytes() == (tmp_path / "ours" / "words.txt").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_kaldi_scores_as_we_do(kind, write_lm, kaldi_scores, our_scores, assert_close, tmp_path):
    """rnnlm-sentence-probs gives our log-probabilities where it normalises, our logits where it does not."""
    model = write_lm(kind)
    export_kaldi_rnnlm(ExportSettings(tmp_path / "ours", tmp_path / "rnnlm", text=kind == "untied"))
    sentences = [[1, 2, 3], [20, 20], [19, 18, 17, 16, 1, 1, 5, 7], [4]]
    for normalize in (True, False):
        assert_close(our_scores(model, sentences, normalize), kaldi_scores(tmp_path / "rnnlm", sentences, normalize))


def test_kaldis_tools_read_the_network(write_lm, kaldi, tmp_path):
    """nnet3-info counts our parameters, and nnet3-copy's text form is what nnet3-copy makes of ours."""
    write_lm("peepholes")
    for form, text in (("binary", False), ("text", True)):
        export_kaldi_rnnlm(ExportSettings(tmp_path / "ours", tmp_path / form, text=text))
    info = kaldi(f"nnet3-info {tmp_path}/binary/final.raw").stdout.decode()
    layers = 40 * (7 + 10) + 40 + 30 + 40 * (10 + 10) + 40 + 30
    assert f"num-parameters: {layers + 7 * 10 + 7}\n" in info and "left-context: 0\n" in info
    copies = [kaldi(f"nnet3-copy --binary=false {tmp_path}/{form}/final.raw -").stdout for form in ("binary", "text")]
    assert copies[0] == copies[1] and b"lstm2.lstm_nonlin" in copies[0]


def test_files_are_as_kaldis_scripts_want_them(write_lm, tmp_path):
    """words.txt is ours and <brk>; all options are there though the ids are Kaldi's defaults."""
    model = write_lm("tied")
    words = ["<eps>", "<s>", "</s>", *WORDS[1:21]]
    (tmp_path / "ours" / "words.txt").write_text("".join(f"{word} {i}\n" for i, word in enumerate(words)).rstrip())
    model.config = replace(model.config, bos=1, eos=2)
    save_lm(tmp_path / "ours", model, {})
    shown = export_kaldi_rnnlm(ExportSettings(tmp_path / "ours", tmp_path / "rnnlm"))
    assert "2 layers of 8 cells, embeddings of 9, 24 words" in shown
    options = (tmp_path / "rnnlm" / "special_symbol_opts.txt").read_text()
    assert options == "--bos-symbol=1 --eos-symbol=2 --brk-symbol=23 \n"
    ours = (tmp_path / "ours" / "words.txt").read_bytes()
    assert (tmp_path / "rnnlm" / "config" / "words.txt").read_bytes() == ours + b"\n<brk> 23\n"
    assert (tmp_path / "rnnlm" / "config" / "oov.txt").read_text() == f"{words[20]}\n"
    assert (tmp_path / "rnnlm" / "word_embedding.final.mat").read_bytes().startswith(b"\0BFM ")


def test_kaldis_rescoring_script_takes_the_directory(make_model, kaldi, sample, tmp_path):
    """rnnlm/lmrescore_pruned.sh passes its own checks of the words and rescores every lattice of the sample."""
    lang, decode = sample / "data" / "lang_tg", sample / "exp" / "chain" / "tdnn" / "decode_dev_tg"
    words = (lang / "words.txt").read_bytes()
    ids = {line.split()[0].decode(): int(line.split()[1]) for line in words.splitlines()}
    symbols = {"vocab_size": len(ids), "bos": ids["<s>"], "eos": ids["</s>"], "unk": ids["<unk>"]}
    save_lm(tmp_path / "ours", build(replace(make_model("lstm").config, **symbols)), {})
    (tmp_path / "ours" / "words.txt").write_bytes(words)
    export_kaldi_rnnlm(ExportSettings(tmp_path / "ours", tmp_path / "rnnlm_dir"))
    (tmp_path / "path.sh").write_text('export PATH="$PWD/utils/parallel:$PWD/utils:$PATH"\n')
    done = kaldi(
        f"cd {tmp_path} && ln -s $KALDI_ROOT/egs/wsj/s5/utils . && ln -s $KALDI_ROOT/scripts/rnnlm . && "
        f"rnnlm/lmrescore_pruned.sh --cmd run.pl --skip-scoring true {lang} rnnlm_dir data {decode} out && "
        "gunzip -c out/lat.*.gz | lattice-best-path ark:- ark,t:best"
    )
    assert b"Word lists mismatch" not in done.stdout
    utterances = [line.split()[0] for line in (sample / "data" / "dev" / "text").read_text().splitlines()]
    assert sorted(line.split()[0] for line in (tmp_path / "best").read_text().splitlines()) == sorted(utterances)


def test_what_cannot_be_exported_is_said(write_lm, make_model, tmp_path):
    """A Transformer, a packed file, missing files, other words and a vocabulary with <brk> are errors."""
    write_lm("tied")
    export = ExportSettings(tmp_path / "ours", tmp_path / "rnnlm")
    words = tmp_path / "ours" / "words.txt"
    words.write_text(words.read_text().replace("w7 ", "<brk> "))
    with pytest.raises(VocabularyError, match=r"<brk> is a word already.*found id 7"):
        export_kaldi_rnnlm(export)
    words.write_text("<eps> 0\n<s> 1\n")
    with pytest.raises(VocabularyError, match=r"does not fit the model, expected 23 words, found 2"):
        export_kaldi_rnnlm(export)
    words.unlink()
    (tmp_path / "ours" / "config.json").unlink()
    with pytest.raises(MissingInputError, match=r"missing 2.*config\.json.*words\.txt"):
        export_kaldi_rnnlm(export)
    save_lm(tmp_path / "ours", make_model("transformer-pre"), {})
    words.touch()
    with pytest.raises(ConfigError, match=r"not an LSTM, expected model lstm, found transformer"):
        export_kaldi_rnnlm(export)
    with pytest.raises(ConfigError, match=r"a packed model.*name what it was packed from"):
        export_kaldi_rnnlm(ExportSettings(words, tmp_path / "rnnlm"))
    assert not (tmp_path / "rnnlm").exists()
    assert load_lm(tmp_path / "ours").config.model == "transformer"
