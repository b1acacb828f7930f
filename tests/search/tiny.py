# SPDX-License-Identifier: Apache-2.0
"""A language and an LM small enough that a search which trains takes seconds."""

import torch

from kaldi_mpq.artefact import read_json
from kaldi_mpq.lm.checkpoint import load_lm, save_lm
from kaldi_mpq.lm.settings import TrainSettings
from kaldi_mpq.lm.train import Trainer, train_lm
from kaldi_mpq.search.problem import make_problem
from kaldi_mpq.search.settings import SearchSettings
from kaldi_mpq.text.prepare import prepare_text
from kaldi_mpq.text.settings import TextSettings

WORDS = 30
QUICK = {"train_tokens": 300, "threads": 1, "device": "cpu", "plot": False, "learning_rate": 0.005}


def make_data(place):
    """Return a directory as ``mpq text`` writes it; every word has three likely successors."""
    generator = torch.Generator().manual_seed(0)
    symbols = ["<eps>", *(f"w{i}" for i in range(WORDS)), "<unk>", "<s>", "</s>"]
    (place / "words.txt").write_text("".join(f"{word} {i}\n" for i, word in enumerate(symbols)))
    for name, utterances in (("train", 600), ("dev", 60)):
        lines = []
        for number in range(utterances):
            word, words = 0, []
            for _ in range(int(torch.randint(3, 9, (), generator=generator))):
                word = (7 * word + 3 * int(torch.randint(1, 4, (), generator=generator))) % WORDS
                words.append(f"w{word}")
            lines.append(f"meeting{number // 40:03d}-{number:05d} {' '.join(words)}\n")
        (place / name).write_text("".join(lines))
    prepare_text(TextSettings(place / "lm", place / "words.txt", place / "train", place / "dev"))
    return place / "lm"


def make_lm(data, out):
    """Return the directory of a trained float LSTM."""
    shape = {"embedding_dim": 12, "hidden_dim": 16, "layers": 1, "dropout": 0.0}
    quick = {"batch_tokens": 300, "warmup_steps": 10, "threads": 1, "device": "cpu"}
    train_lm(TrainSettings(out=out, data=data, epochs=8, learning_rate=0.02, **shape, **quick))
    return out


def with_idle_part(lm, out, part="layers.0.hh", factor=1e-3):
    """Return a copy of an LM in which one matrix hardly says anything."""
    model = load_lm(lm)
    with torch.no_grad():
        model.get_parameter(part).mul_(factor)
    save_lm(out, model, read_json(lm / "config.json")["made_by"])
    (out / "words.txt").write_bytes((lm / "words.txt").read_bytes())
    return out


def settings_of(lm, data, out, **options):
    """Return quick settings of a search."""
    return SearchSettings(**{"lm": lm, "data": data, "out": out, **QUICK, **options})


def bytes_at(lm, data, bits, units):
    """Return the size of the file in which every part has these bits."""
    problem = make_problem(load_lm(lm), settings_of(lm, data, lm, budget=1_000_000, units=units))
    return problem.file_bytes(dict.fromkeys(problem.bytes, bits))


def interrupt_at(monkeypatch, stage, step):
    """Make the training of one stage stop in a step, as Ctrl-C does; other stages go on."""
    one_step = Trainer._one_step

    def interrupted(self, batch):
        if self.out.name == stage and self.step == step:
            raise KeyboardInterrupt
        return one_step(self, batch)

    monkeypatch.setattr(Trainer, "_one_step", interrupted)
