# SPDX-License-Identifier: Apache-2.0
"""Sizes told before packing are those of the packed file: never too small, and hardly too large."""

import json

import numpy as np
import pytest
import torch

from kaldi_mpq.lm.checkpoint import load_lm
from kaldi_mpq.pack.format import read_file
from kaldi_mpq.pack.settings import PackSettings
from kaldi_mpq.pack.size import STAMP_BYTES, SizeTable, bounded_stamp, unit_tensors
from kaldi_mpq.pack.units import matching_units
from kaldi_mpq.pack.write import pack_lm
from kaldi_mpq.precision import PrecisionMap
from kaldi_mpq.quant.granularity import Granularity

GRANULARITIES = [Granularity("row"), Granularity("tensor"), Granularity("block", 4)]


def pack(fit):
    """Return the packed file of a directory."""
    out = fit.parent / "packed" / "model.mpq"
    pack_lm(PackSettings(fit, out))
    return out


@pytest.mark.parametrize("shape", ["lstm", "wide", "transformer"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32, [1, 32, 2, 16, 4, 8]], ids=str)
@pytest.mark.parametrize("split", ["gate", "matrix", "rows5"])
def test_the_bound_holds_and_is_tight(make_fit, shape, bits, split):
    """file <= bound, and apart from the stamp by no more than the digits of offsets."""
    check_size(make_fit(shape, bits, split=split), Granularity())


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
def test_every_granularity_is_counted(make_fit, granularity):
    """Scales per row, unit or block."""
    check_size(make_fit("lstm", [2, 8, 1, 4], granularity), granularity)


def check_size(fit, granularity):
    """Compare the table's sum with the file."""
    out = pack(fit)
    size = out.stat().st_size
    precision = PrecisionMap.read(fit / "precision.json")
    model = load_lm(fit)
    half = any(bits != 32 for bits in precision.bits.values())
    table = SizeTable(model, granularity, size, half_leftover=half)
    units = matching_units(model, precision)
    contents = read_file(out)
    bound = table.fixed_bytes + sum(table.unit_bytes(unit, precision[unit.name]) for unit in units)
    stamp = len(json.dumps(json.dumps(contents.header["made_by"], separators=(",", ":"))))
    assert size <= bound <= size + (STAMP_BYTES - stamp) + 16 + 12 * len(contents.tensors)
    for unit in units:
        for name, (dtype, shape) in unit_tensors(unit, precision[unit.name], granularity).items():
            assert (contents.tensors[name].dtype, contents.tensors[name].shape) == (dtype, shape)


def test_scales_that_float16_may_not_hold_are_counted_as_float32(make_fit):
    """Rows a thousand times smaller than usual need float32 scales, and more bytes are told."""
    model = load_lm(make_fit("lstm", 32))
    table = SizeTable(model, Granularity(), 10_000)
    unit = model.units()[0]
    usual = table.unit_bytes(unit, 8)
    model.embedding.weight.data[3] *= 1e-4
    assert SizeTable(model, Granularity(), 10_000).unit_bytes(unit, 8) == usual + 2 * (unit.stop - unit.start)
    model.embedding.weight.data[3] = 0.0
    assert SizeTable(model, Granularity(), 10_000).unit_bytes(unit, 8) == usual


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_rounding_never_needs_wider_scales_than_told(bits):
    """Whatever the size of the weights: where rounding ends with float32 scales, they were counted."""
    from kaldi_mpq.lm.model import build
    from kaldi_mpq.quant.quantized import quantize

    config = {"model": "lstm", "embedding_dim": 6, "hidden_dim": 6, "layers": 1, "vocab_size": 40}
    model = build({**config, "bos": 1, "eos": 2, "unk": 3})
    unit = model.units()[0]
    wide = set()
    for power in np.linspace(-7, 5, 60):
        generator = torch.Generator().manual_seed(int(power * 100) + 1000)
        model.embedding.weight.data.copy_(10**power * torch.randn(40, 6, generator=generator))
        scales = quantize(model.embedding.weight, bits, Granularity()).scales
        table = SizeTable(model, Granularity(), 10_000)
        narrow = sum(
            np.prod(shape) * dtype.itemsize for dtype, shape in unit_tensors(unit, bits, Granularity()).values()
        )
        counted = table.unit_bytes(unit, bits) - narrow
        wide.add(scales.dtype)
        assert scales.dtype == torch.float16 or counted > 2 * 40
    assert wide == {torch.float16, torch.float32}


def test_a_stamp_of_long_paths_keeps_their_ends():
    """However long and however foreign the paths, the stamp takes no more than its share."""
    short = {"verb": "pack", "settings": {"fit": "exp/a"}}
    assert bounded_stamp(short) == short
    for path in ("/very/long" * 300 + "/model", "/" + "ä" * 3000 + "/model", '/"quoted\\' * 400 + "/model"):
        made_by = {"verb": "pack", "settings": {"fit": path, "out": path}, "inputs": {path: "0" * 64}}
        found = bounded_stamp(made_by)
        assert len(json.dumps(json.dumps(found))) <= STAMP_BYTES
        assert found["settings"]["fit"].endswith("/model")
    everything = {"verb": "pack", **{f"key{i}": "x" * 50 for i in range(200)}}
    assert bounded_stamp(everything) == {"verb": "pack"}
