# SPDX-License-Identifier: Apache-2.0
"""N-best rescoring against the padded full-softmax pass of Kaldi's steps/pytorchnn, same float model, same scores.

    python benchmarks/nbest_speed.py --decode exp/chain/tdnn/decode_dev_tg [--lm exp/lstm_1a] [--n 100] [--threads 1]

The peer runs in two shapes: one utterance's list per batch as steps/pytorchnn has it, and at its best: lists of many
utterances sorted by length, cut into batches of equal tokens. Both and ours take turns, several times, in one process;
the ratios are of the same run, by the clock and by processor time, which other jobs on the machine disturb less.
Without --lm the model has random weights, which cost the same time. Then the output layer alone beside a product of
float matrices.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import kaldi_mpq  # noqa: F401  sets MKL_DEBUG_CPU_TYPE before torch loads

# isort: split
import numpy as np
import torch
from torch.nn import functional

from kaldi_mpq import native
from kaldi_mpq.artefact import write_json
from kaldi_mpq.lm.model import LanguageModel, ModelConfig, build
from kaldi_mpq.lm.normalizer import make_normalizer
from kaldi_mpq.pack.load import open_lm
from kaldi_mpq.rescore.tree_scores import score_hypotheses

T = TypeVar("T")
Lists = tuple[np.ndarray, np.ndarray, np.ndarray]  # lattice_offsets, word_offsets, words


def main() -> None:
    """Measure, print a table, write benchmarks/out/nbest_speed.json."""
    options = parse()
    torch.set_num_threads(options.threads)
    model = open_lm(options.lm) if options.lm else random_lstm(options.vocab)
    lists = hypotheses(options.decode, options.n, options.every)
    tokens = len(lists[2]) + len(lists[1]) - 1
    systems = {
        "padded, a list a batch (steps/pytorchnn)": lambda: padded(model, lists, by_list=True, batch_tokens=0),
        "padded, sorted by length": lambda: padded(model, lists, by_list=False, batch_tokens=2000),
        "prefix tree (ours)": lambda: ours(model, lists),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in systems}
    scores = {}
    for _ in range(options.repeats):
        for name, run in systems.items():
            scores[name], seconds = timed(run)
            times[name].append(seconds)
    report(options, model, tokens, lists, times, scores)


def timed(run: Callable[[], T]) -> tuple[T, tuple[float, float]]:
    """Return what ``run`` returns, and the seconds it took by the clock and of the processor."""
    clock, cpu = time.perf_counter(), time.process_time()
    result = run()
    return result, (time.perf_counter() - clock, time.process_time() - cpu)


def report(
    options: argparse.Namespace, model: LanguageModel, tokens: int, lists: Lists, times: dict, scores: dict
) -> None:
    """Print words per second, ratios within each round, and the largest difference of a word's score."""
    names = list(times)
    mine = names[-1]
    sizes = np.diff(lists[1]) + 1
    print(f"{len(lists[0]) - 1} utterances, {len(sizes)} hypotheses, {tokens} tokens")
    print(f"{model.config.model}, {options.threads} thread(s), torch {torch.__version__}")
    rows = {}
    for name in names:
        ratio, cpu_ratio = (
            statistics.median(theirs[k] / own[k] for theirs, own in zip(times[name], times[mine], strict=True))
            for k in range(2)
        )
        per_word = float(np.max(np.abs(scores[name] - scores[mine]) / sizes))
        rows[name] = {
            "tokens_per_second": tokens / statistics.median(clock for clock, _ in times[name]),
            "ours_is_faster_by": ratio,
            "ours_is_faster_by_cpu_time": cpu_ratio,
            "largest_difference": per_word,
        }
        speed = rows[name]["tokens_per_second"]
        print(
            f"{name:<42} {speed:>8.0f} tokens/s   ours is {ratio:.2f} x ({cpu_ratio:.2f} x by processor time)   "
            f"|difference| {per_word:.1e} nats/word"
        )
    layer = output_layer(model, options.repeats)
    print("output layer alone: " + ", ".join(f"{name} {speed:.1f} GMAC/s" for name, speed in layer.items()))
    out = Path(__file__).parent / "out" / "nbest_speed.json"
    settings = {key: str(value) for key, value in vars(options).items()}
    result = {"settings": settings, "torch": torch.__version__, "tokens": tokens, "seconds": times, "rows": rows}
    write_json(out, {**result, "output_layer_gmac_per_second": layer})
    print(json.dumps({"written": str(out)}))


@torch.inference_mode()
def output_layer(model: LanguageModel, repeats: int) -> dict[str, float]:
    """Return multiplications per second, in 10^9 of processor time, of ours and of the bare float product."""
    weight, normalizer = model.output_weight, make_normalizer(model)
    hidden = 0.3 * torch.randn(768, weight.shape[1])
    out = torch.empty(192, len(weight))  # as many rows as ours has in the cache
    systems = {
        "log-sum-exp (ours)": lambda: normalizer.log_normalizer(hidden),
        "sgemm without it": lambda: [torch.mm(part, weight.t(), out=out) for part in hidden.split(192)],
    }
    speeds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(5 * repeats):
        for name, run in systems.items():
            speeds[name].append(1e-9 * len(hidden) * weight.numel() / timed(run)[1][1])
    return {name: statistics.median(values) for name, values in speeds.items()}


def hypotheses(decode: Path, n: int, every: int) -> Lists:
    """Return the N-best lists of every so-manieth utterance of a decode directory."""
    lattice_offsets, word_offsets, words = [0], [0], []
    for archive in sorted(decode.glob("lat.*.gz")):
        with native.LatticeReader(str(archive)) as reader:
            for lattices in reader.batches(max_arcs=1_000_000):
                some = lattices.select(np.arange(0, len(lattices), every))
                paths = native.nbest(some, n, 0.1)
                offsets, flat = paths.words(some)
                lattice_offsets.extend((lattice_offsets[-1] + paths.lattice_offsets[1:]).tolist())
                word_offsets.extend((word_offsets[-1] + offsets[1:]).tolist())
                words.append(flat)
    return np.array(lattice_offsets), np.array(word_offsets), np.concatenate(words)


@torch.inference_mode()
def padded(model: LanguageModel, lists: Lists, *, by_list: bool, batch_tokens: int) -> np.ndarray:
    """Return the cost of every hypothesis by padded batches and a full log-softmax at every position."""
    lattice_offsets, offsets, words = lists
    lengths = np.diff(offsets)
    order = np.arange(len(lengths)) if by_list else np.argsort(-lengths, kind="stable")
    batches = [range(a, b) for a, b in itertools.pairwise(lattice_offsets) if b > a] if by_list else []
    begin = 0
    while not by_list and begin < len(order):
        end = min(len(order), begin + max(1, batch_tokens // int(lengths[order[begin]] + 1)))
        batches.append(order[begin:end])
        begin = end
    costs = np.empty(len(lengths))
    bos, eos = model.config.bos, model.config.eos
    for rows in batches:
        t = max(int(lengths[row]) for row in rows) + 1
        inputs = torch.full((len(rows), t), bos)
        targets = torch.full((len(rows), t), -100)
        for i, row in enumerate(rows):
            sentence = torch.from_numpy(words[offsets[row] : offsets[row + 1]].astype(np.int64))
            inputs[i, 1 : len(sentence) + 1] = sentence
            targets[i, : len(sentence)] = sentence
            targets[i, len(sentence)] = eos
        logits = model.logits(model(inputs)[0])
        losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=-100)
        costs[np.asarray(rows)] = losses.view(len(rows), t).sum(1).double().numpy()
    return costs


def ours(model: LanguageModel, lists: Lists) -> np.ndarray:
    """Return the cost of every hypothesis by the prefix tree."""
    costs = score_hypotheses(model, *lists, 8192)
    sums = np.r_[0.0, np.cumsum(costs.word)]
    return sums[lists[1][1:]] - sums[lists[1][:-1]] + costs.final


def random_lstm(vocab: int) -> LanguageModel:
    """Return an untrained LSTM 2x512, the size of recipes/ami's."""
    torch.manual_seed(1)
    return build(ModelConfig("lstm", vocab, vocab - 2, vocab - 1, 5, 512, 512, 2)).eval()


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decode", type=Path, required=True, help="Kaldi decode directory")
    parser.add_argument("--lm", type=Path, help="LM directory or model.mpq; default: an untrained LSTM 2x512")
    parser.add_argument("--vocab", type=int, default=11869, help="words of the untrained LSTM")
    parser.add_argument("--n", type=int, default=100, help="paths per lattice")
    parser.add_argument("--every", type=int, default=40, help="take every so-manieth utterance")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
