# SPDX-License-Identifier: Apache-2.0
"""CTranslate2 with int8 weights: a Transformer language model by ``Generator.score_batch``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import ctranslate2
import numpy as np
from ctranslate2.specs import TransformerDecoderModelSpec
from ctranslate2.specs.common_spec import Activation

from peers.batches import Lists, read_lists
from peers.protocol import Job, Prepared

__all__ = ["KINDS"]

BATCH_TOKENS = (128, 512, 2048)
LONGEST = 512  # words of a sentence


def nbest(job: Job) -> Prepared:
    """N-best lists under a pre-norm Transformer."""
    lists = read_lists(job["lists"])
    with np.load(job["weights"]) as stored, tempfile.TemporaryDirectory() as folder:
        _convert(dict(stored), job, lists, Path(folder) / "model")
        generator = ctranslate2.Generator(
            str(Path(folder) / "model"), compute_type="int8", inter_threads=1, intra_threads=job["threads"]
        )
    ends = [[str(lists.bos), *map(str, sentence.tolist()), str(lists.eos)] for sentence in lists.sentences]

    def score(sentences: list[list[str]], tokens: int) -> np.ndarray:
        found = generator.score_batch(sentences, max_batch_size=tokens, batch_type="tokens")
        return np.array([-sum(one.log_probs) for one in found])

    seconds = {}
    for tokens in BATCH_TOKENS:
        start = time.process_time()
        score(ends[:: max(1, len(ends) // 40)], tokens)
        seconds[tokens] = time.process_time() - start
    best = min(seconds, key=seconds.__getitem__)
    about = {"ctranslate2": ctranslate2.__version__, "evaluations": lists.evaluations, "batch tokens": best}
    return Prepared(lambda: score(ends, best)[lists.which], about)


def _convert(weights: Mapping[str, np.ndarray], job: Job, lists: Lists, folder: Path) -> None:
    """Write the model as CTranslate2 reads it, int8; words are named by their numbers."""
    spec = TransformerDecoderModelSpec.from_config(
        job["layers"], job["heads"], pre_norm=True, activation=Activation.GELU
    )
    decoder, embedding = spec.decoder, weights["embedding.weight"]
    decoder.embeddings.weight, decoder.scale_embeddings = embedding, True
    decoder.position_encodings.encodings = _positions(embedding.shape[1])
    _put(decoder.layer_norm, weights, "norm", ("gamma", "beta"))
    decoder.projection.weight = weights.get("output.weight", embedding)
    decoder.projection.bias = weights["output.bias"]
    for k, layer in enumerate(decoder.layer):
        block = f"blocks.{k}"
        _put(layer.self_attention.layer_norm, weights, f"{block}.norm1", ("gamma", "beta"))
        inputs = [f"{block}.attention.{name}" for name in ("query", "key", "value")]
        layer.self_attention.linear[0].weight = np.concatenate([weights[f"{name}.weight"] for name in inputs])
        layer.self_attention.linear[0].bias = np.concatenate([weights[f"{name}.bias"] for name in inputs])
        _put(layer.self_attention.linear[1], weights, f"{block}.attention.out", ("weight", "bias"))
        _put(layer.ffn.layer_norm, weights, f"{block}.norm2", ("gamma", "beta"))
        _put(layer.ffn.linear_0, weights, f"{block}.up", ("weight", "bias"))
        _put(layer.ffn.linear_1, weights, f"{block}.down", ("weight", "bias"))
    spec.register_vocabulary([str(word) for word in range(len(embedding))])
    spec.config.bos_token, spec.config.eos_token = str(lists.bos), str(lists.eos)
    spec.config.unk_token = "0"
    spec.validate()
    spec.optimize(quantization="int8")
    folder.mkdir()
    spec.save(str(folder))


def _put(layer: object, weights: Mapping[str, np.ndarray], name: str, fields: tuple[str, str]) -> None:
    for field, part in zip(fields, ("weight", "bias"), strict=True):
        setattr(layer, field, weights[f"{name}.{part}"])


def _positions(dim: int) -> np.ndarray:
    """Return the (LONGEST, dim) sinusoidal encodings: sines in even, cosines in odd columns."""
    rates = np.exp(np.arange(0, dim, 2) * (-np.log(10000.0) / dim))
    angles = np.arange(LONGEST)[:, None] * rates
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(LONGEST, dim).astype(np.float32)


KINDS: Mapping[str, Callable[[Job], Prepared]] = {"nbest transformer": nbest}
