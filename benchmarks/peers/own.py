# SPDX-License-Identifier: Apache-2.0
"""This package, as it rescores: packed products, N-best lists by the prefix tree, and where the time of these goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import kaldi_mpq  # noqa: F401  sets MKL_DEBUG_CPU_TYPE before torch loads

# isort: split
import numpy as np
import torch

from kaldi_mpq import native
from kaldi_mpq.errors import ConfigError
from kaldi_mpq.lm.model import LanguageModel
from kaldi_mpq.lm.normalizer import Normalizer, make_normalizer
from kaldi_mpq.native.packed import Matrix, kernel_names
from kaldi_mpq.pack.bits import pack_codes
from kaldi_mpq.pack.load import open_lm
from kaldi_mpq.rescore import tree_scores
from peers.products import codes_of, rows_of, scale_of
from peers.protocol import Job, Prepared, Skipped

__all__ = ["KINDS", "packed_matrix"]

BATCH_TOKENS = 8192  # the default of --batch-tokens
Lists = tuple[np.ndarray, np.ndarray, np.ndarray]


def product(job: Job) -> Prepared:
    """A product with ``bits`` of weights and ``activation_bits`` of the rows."""
    matrix, x, threads = packed_matrix(job), rows_of(job), job["threads"]
    return Prepared(lambda: matrix.multiply(x, threads=threads), {"kernels": kernel_names()[0]})


def packed_matrix(job: Job) -> Matrix:
    """Return the weights of a product, packed."""
    codes = codes_of(job)
    scales = np.full((len(codes), 1), scale_of(job), np.float32)
    matrix = Matrix(codes.shape[1], activation_bits=job["activation_bits"])
    matrix.add_codes(job["bits"], pack_codes(codes, job["bits"]), scales)
    return matrix


def nbest(job: Job) -> Prepared:
    """N-best lists under an LM of any kind; ``share`` False: hypotheses share no prefixes, as with the peers."""
    model, normalizer = _open(job)
    lists = _read(job)
    start = None
    if not job["share"]:  # trees with roots of their own
        lists = np.arange(len(lists[1])), lists[1], lists[2]
        start = model.start(len(lists[1]) - 1)

    evaluations = tree_scores.score_hypotheses(model, *lists, BATCH_TOKENS, start, normalizer).evaluations

    def run() -> np.ndarray:
        return _costs(model, normalizer, lists, start)

    return Prepared(run, {"kernel": _kernel(model), "evaluations": evaluations, "torch": torch.__version__})


def search(job: Job) -> Prepared:
    """The ``n`` best paths of lattices, found and scored."""
    model, normalizer = _open(job)
    with native.LatticeReader(job["archive"]) as reader:
        lattices = native.Lattices.concat(list(reader.batches(max_arcs=1_000_000)))

    def run() -> np.ndarray:
        paths = native.nbest(lattices, job["n"], 0.1)
        return _costs(model, normalizer, (paths.lattice_offsets, *paths.words(lattices)), None)

    paths = native.nbest(lattices, job["n"], 0.1)
    return Prepared(run, {"kernel": _kernel(model), "paths": len(paths), "words": len(paths.words(lattices)[1])})


def profile(job: Job) -> Prepared:
    """N-best lists again, with the seconds of each part of the engine in ``about``; the result is theirs."""
    model, normalizer = _open(job)
    lists = _read(job)
    _costs(model, normalizer, lists, None)  # what is done once is not counted
    seconds: dict[str, float] = defaultdict(float)
    parts = [
        (model, "advance_levels", "network"),
        (normalizer, "log_normalizer", "normalisation over the vocabulary"),
        (normalizer, "logits", "logits of the words"),
        (tree_scores, "build_tree", "prefix tree"),
        (tree_scores, "group_by_nodes", "groups of utterances"),
    ]
    start = time.process_time()
    with _counted(parts, seconds):
        _costs(model, normalizer, lists, None)
    seconds["the rest"] = time.process_time() - start - sum(seconds.values())
    result = np.array(list(seconds.values()))
    return Prepared(lambda: result, {"kernel": _kernel(model), "seconds": dict(seconds)})


@contextmanager
def _counted(parts: list[tuple[Any, str, str]], seconds: dict[str, float]) -> Iterator[None]:
    """Add the time of calls of ``owner.function`` to ``seconds[name]``."""
    originals = [getattr(owner, function) for owner, function, _ in parts]
    for (owner, function, name), original in zip(parts, originals, strict=True):
        setattr(owner, function, _timed(original, name, seconds))
    try:
        yield
    finally:
        for (owner, function, _), original in zip(parts, originals, strict=True):
            setattr(owner, function, original)


def _timed(function: Callable[..., Any], name: str, seconds: dict[str, float]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            seconds[name] += time.process_time() - start

    return call


def _costs(model: LanguageModel, normalizer: Normalizer, lists: Lists, start: Any) -> np.ndarray:
    """Return the (P,) costs of all hypotheses."""
    found = tree_scores.score_hypotheses(model, *lists, BATCH_TOKENS, start, normalizer)
    sums = np.r_[0.0, np.cumsum(found.word)]
    return sums[lists[1][1:]] - sums[lists[1][:-1]] + found.final


def _open(job: Job) -> tuple[LanguageModel, Normalizer]:
    torch.set_num_threads(job["threads"])
    more = {"denominator": job["denominator"]} if "denominator" in job else {}
    try:
        model = open_lm(job["lm"], job["kernel"], **more)
    except ConfigError as error:  # no such kernel for such a model
        raise Skipped(f"--kernel {job['kernel']}: no kernels for this model") from error
    return model, make_normalizer(model, job["normalize"])


def _read(job: Job) -> Lists:
    with np.load(job["lists"]) as stored:
        return stored["lattice_offsets"], stored["word_offsets"], stored["words"]


def _kernel(model: LanguageModel) -> str:
    """Return what a model is computed with."""
    if not hasattr(model, "packed_bytes"):
        return "unpacked to float32"
    return f"packed, {kernel_names()[0]}"


KINDS: Mapping[str, Callable[[Job], Prepared]] = {
    "product": product,
    "nbest lstm": nbest,
    "nbest transformer": nbest,
    "nbest search": search,
    "profile": profile,
}
