# SPDX-License-Identifier: Apache-2.0
"""Settings of ``mpq lm train|ppl|import|export-kaldi``; `ngram_settings`: those of ``mpq lm ngram``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.settings import setting

__all__ = ["ExportSettings", "ImportSettings", "OptimSettings", "PplSettings", "TrainSettings"]


@dataclass(frozen=True)
class OptimSettings:
    """How weights are trained: shared by ``mpq lm train`` and ``mpq fit``."""

    optimizer: str = setting("adam", help="optimiser", choices=("adam", "sgd"))
    learning_rate: float = setting(2e-3, help="learning rate at its highest")
    momentum: float = setting(0.9, help="momentum of sgd")
    weight_decay: float = setting(0.0, help="decoupled (adam) or L2 (sgd) weight decay of matrices")
    schedule: str = setting("cosine", help="learning-rate schedule", choices=("cosine", "halving", "constant"))
    warmup_steps: int = setting(200, help="steps of linear warm-up")
    final_rate: float = setting(0.02, help="cosine: last learning rate as a fraction of the highest")
    epochs: int = setting(8, help="passes over the training text at most")
    batch_tokens: int = setting(1000, help="tokens per batch and process")
    clip: float = setting(1.0, help="largest gradient norm; 0: no clipping")
    label_smoothing: float = setting(0.0, help="probability mass spread over the vocabulary")
    self_normalize: float = setting(
        0.0, help="weight of the squared log-normalisers in the loss; above 0: logits become log-probabilities"
    )
    patience: int = setting(3, help="validations without gain before training stops")
    halvings: int = setting(8, help="halving: halvings before training stops")
    validate_every: float = setting(1.0, help="epochs between validations")
    checkpoint_minutes: float = setting(5.0, help="minutes between checkpoints")
    context: str = setting(
        "utterance",
        help="what precedes an utterance: nothing, or its conversation",
        choices=("utterance", "conversation"),
    )
    window: int = setting(70, help="conversation: tokens between truncations of back-propagation")
    seed: int = setting(1, help="seed of initial weights, order of the data and dropout")
    device: str = setting("auto", help="cpu, cuda, or auto: cuda where there is one")
    threads: int = setting(0, help="CPU threads; 0: torch's own choice")

    positive: ClassVar[tuple[str, ...]] = (
        "learning_rate", "epochs", "batch_tokens", "window", "patience", "validate_every"
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name in self.positive:
            if not getattr(self, name) > 0:
                raise ConfigError(f"bad value for {name}", expected="a number above 0", found=getattr(self, name))
        for name in ("label_smoothing", "final_rate", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"bad value for {name}", expected="a number in [0, 1)", found=getattr(self, name))
        for name in ("self_normalize", "weight_decay", "warmup_steps", "clip", "halvings", "seed", "threads"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"bad value for {name}", expected="a number not below 0", found=getattr(self, name))


@dataclass(frozen=True)
class TrainSettings(OptimSettings):
    """Train an LSTM or Transformer word language model.

    Writes config.json, model.safetensors, ppl.json, train.log and words.txt into OUT. The same command goes on from the
    last checkpoint after an interruption. Several processes: torchrun --nproc_per_node N -m kaldi_mpq.cli lm train ...
    """

    out: Path = setting(Path("exp/lm"), help="directory to write", positional=True)
    data: Path = setting(Path("data/lm"), help="directory that mpq text wrote")
    model: str = setting("lstm", help="architecture", choices=("lstm", "transformer"))
    embedding_dim: int = setting(512, help="dimension of word embeddings (transformer: of everything)")
    hidden_dim: int = setting(512, help="cells per LSTM layer (transformer: feed-forward dimension)")
    layers: int = setting(2, help="layers")
    heads: int = setting(4, help="transformer: attention heads")
    norm: str = setting("pre", help="transformer: layer norm before or after each sub-layer", choices=("pre", "post"))
    tied: bool = setting(True, help="share the embedding with the output layer")
    dropout: float = setting(0.3, help="dropout of embeddings, between layers and before the output layer")
    backward: bool = setting(False, help="read every utterance from its end, for rescoring in both directions")


@dataclass(frozen=True)
class PplSettings:
    """Print the perplexity of a language model (float, fitted or packed) on Kaldi text.

    Counts the sentence end; out-of-vocabulary words count as the unknown word. With an n-gram also that of the two
    interpolated.
    """

    lm: Path = setting(help="LM directory or model.mpq", positional=True)
    text: Path = setting(help="Kaldi text file", positional=True)
    words: Path | None = setting(None, help="words.txt; default: the one beside the LM")
    ngram: Path | None = setting(None, help="ARPA file to interpolate with")
    weight: float | None = setting(None, help="weight of the neural LM; default: the best one on this text")
    context: str = setting("utterance", help="what precedes an utterance", choices=("utterance", "conversation"))
    batch_tokens: int = setting(4000, help="tokens per batch")
    threads: int = setting(0, help="CPU threads; 0: torch's own choice")


@dataclass(frozen=True)
class ImportSettings:
    """Turn an RNNLM directory of Kaldi, or a model.pt of its steps/pytorchnn, into an LM directory of ours.

    A directory with final.raw (nnet3 of lstm-layer, fast-lstm-layer and affine layers) is an RNNLM; a file is a
    model.pt (a state_dict; no pickled code is run).
    """

    model: Path = setting(help="RNNLM directory, or model.pt", positional=True)
    out: Path = setting(help="directory to write", positional=True)
    words: Path | None = setting(None, help="words.txt of a model.pt; default of an RNNLM: its config/words.txt")
    heads: int | None = setting(None, help="model.pt of a transformer: attention heads; the file does not hold them")
    bos: str = setting("<s>", help="model.pt: boundary symbol, both sentence start and end")
    unk: str | None = setting(None, help="out-of-vocabulary symbol; default: that of config/oov.txt, or <unk>")
    backward: bool = setting(False, help="it was trained on sentences read from their end")


@dataclass(frozen=True)
class ExportSettings:
    """Write an LSTM LM of ours as a Kaldi RNNLM directory, for Kaldi's programs and scripts.

    Writes final.raw, word_embedding.final.mat, special_symbol_opts.txt and config/{words.txt,oov.txt}. With
    normalisation Kaldi gives our probabilities, without it our logits.
    """

    lm: Path = setting(help="LM directory (mpq lm train, mpq lm import, mpq fit)", positional=True)
    out: Path = setting(help="directory to write", positional=True)
    text: bool = setting(False, help="write the network in text form")


def __getattr__(name: str) -> type:
    """Return NgramSettings from its own file."""
    if name == "NgramSettings":
        from kaldi_mpq.lm.ngram_settings import NgramSettings

        return NgramSettings
    raise AttributeError(name)
