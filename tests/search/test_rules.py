# SPDX-License-Identifier: Apache-2.0
"""The rules of a budget, for any model, sensitivities and size: never larger than it, never worse than uniform widths.

Also what a search does with little text and with damaged numbers. Not here: the solver alone (`test_allocate`).
"""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kaldi_mpq.errors import ConfigError, NumericalError, TextError
from kaldi_mpq.lm.model import build
from kaldi_mpq.pack.write import write_packed
from kaldi_mpq.precision import FLOAT_BITS
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.quantized import quantize_units, tensors_on_grid
from kaldi_mpq.search.allocate import allocate
from kaldi_mpq.search.baselines import mirrored, random_bits
from kaldi_mpq.search.problem import make_problem
from kaldi_mpq.search.run import search_bits
from kaldi_mpq.search.settings import SearchSettings
from kaldi_mpq.search.units import precision_of
from kaldi_mpq.text.corpus import Corpus
from tests.search.conftest import SHAPES, WORDS
from tests.search.tiny import settings_of


@st.composite
def problems(draw):
    """A model of any kind with weights of any size, and a budget between its smallest and its largest file."""
    model = build({"vocab_size": WORDS, "bos": 9, "eos": 10, "unk": 8, **SHAPES[draw(st.sampled_from(sorted(SHAPES)))]})
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    with torch.no_grad():
        for parameter in model.parameters():
            size = 10 ** draw(st.floats(-3, 1))
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
    kind = draw(st.sampled_from(["row", "tensor", "block"]))
    options = {
        "lm": "lm",
        "out": "out",
        "units": draw(st.sampled_from(["gate", "sublayer", "matrix", "rows3"])),
        "granularity": kind,
        "block": 3 if kind == "block" else 0,
        "candidates": draw(st.sampled_from([(1, 2, 4, 8), (2, 8), (1, 4, 16), (1, 2, 4, 8, 16, 32)])),
    }
    whole = make_problem(model, SearchSettings(**options, budget=10**9))
    smallest, largest = (
        whole.fixed_bytes + sum(pick(sizes.values()) for sizes in whole.bytes.values()) for pick in (min, max)
    )
    budget = draw(st.integers(smallest + 200, largest + 200))  # 200: offsets of a larger file have more digits
    return make_problem(model, SearchSettings(**options, budget=budget)), Granularity(kind, options["block"])


def packed_bytes(path, problem, bits, granularity):
    """Return the size of the file of a model rounded to these widths."""
    model, precision = problem.model, precision_of(problem.groups, bits)
    units = [unit for group in problem.groups for unit in group.units]
    quantized = quantize_units(model.state_dict(), units, precision, granularity)
    rounded = build(model.config)
    rounded.load_state_dict(tensors_on_grid(model.state_dict(), units, precision, quantized))
    made_by = {"verb": "pack", "settings": {"out": "/a" * 3000}}
    write_packed(path, rounded, precision, quantized, "0" * 64, made_by)
    return path.stat().st_size


@settings(max_examples=25, deadline=None)
@given(problems(), st.integers(0, 2**31))
def test_widths_cost_no_more_than_uniform_ones_and_fit(tmp_path_factory, drawn, seed):
    """For sensitivities of any sign and size: the best of all that fit, uniform, random and inverse ones among them."""
    problem, granularity = drawn
    generator = np.random.default_rng(seed)
    costs = {
        name: {bits: float(generator.normal() * 10 ** generator.uniform(-6, 3)) for bits in sizes}
        for name, sizes in problem.bytes.items()
    }
    found = allocate(problem.items(costs), problem.capacity)
    assert problem.file_bytes(found.bits) <= problem.budget

    def cost_of(bits):
        return sum(costs[name][width] for name, width in bits.items())

    slack = found.gap + 1e-9 * sum(abs(cost) for each in costs.values() for cost in each.values())
    others = [dict.fromkeys(problem.bytes, bits) for bits in set.intersection(*map(set, problem.bytes.values()))]
    others += [random_bits(problem, seed), allocate(problem.items(mirrored(problem, costs)), problem.capacity).bits]
    for other in others:
        if problem.file_bytes(other) <= problem.budget:
            assert cost_of(found.bits) <= cost_of(other) + slack
    path = tmp_path_factory.mktemp("packed") / "model.mpq"
    assert packed_bytes(path, problem, found.bits, granularity) <= problem.budget
    assert all(bits <= 8 or bits in FLOAT_BITS for bits in found.bits.values())


@pytest.mark.parametrize("method", ["nas", "csq"])
def test_methods_that_train_take_a_text_shorter_than_a_batch_and_refuse_an_empty_one(
    toy_lm, toy_data, tmp_path, method
):
    """A handful of utterances is one batch; none at all is an error of one line."""
    short = shutil.copytree(toy_data, tmp_path / "data")
    corpus = Corpus.load(toy_data / "train.ids")
    keep = 45  # two conversations, so that one can be held out
    words = corpus.words[: corpus.offsets[keep]]
    Corpus(words, corpus.offsets[: keep + 1], corpus.conversation[:keep]).save(short / "train.ids")
    options = {"method": method, "uniform_bits": 2, "train_tokens": 10_000, "epochs": 1, "nas_epochs": 1}
    search_bits(settings_of(toy_lm, short, tmp_path / "a", **options))
    assert (tmp_path / "a" / "precision.json").exists()
    Corpus(np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0, np.int32)).save(short / "train.ids")
    with pytest.raises((ConfigError, TextError)) as caught:
        search_bits(settings_of(toy_lm, short, tmp_path / "b", **options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_damaged_table_of_sensitivities_names_the_part(toy_lm, toy_data, tmp_path, value):
    """What was measured before is believed only if it is a number."""
    options = {"method": "kl", "mean_bits": 21, "around": "float", "sample_tokens": 100}
    search_bits(settings_of(toy_lm, toy_data, tmp_path, **options))
    path = tmp_path / "sensitivity.tsv"
    lines = path.read_text().splitlines()
    column = lines[1].split("\t").index("kl_vocabulary")
    cells = lines[2].split("\t")
    cells[column] = value
    path.write_text("\n".join([*lines[:2], "\t".join(cells), *lines[3:]]) + "\n")
    with pytest.raises(NumericalError, match=f"unit {cells[1]}: a sensitivity that is not finite"):
        search_bits(settings_of(toy_lm, toy_data, tmp_path, **options))
