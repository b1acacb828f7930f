# SPDX-License-Identifier: Apache-2.0
"""Codes and scales of a unit, on disk and in a model."""

import pytest
import torch

from kaldi_mpq.errors import MissingInputError, MpqError
from kaldi_mpq.precision import PrecisionMap, Unit
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.grid import GRID_BITS
from kaldi_mpq.quant.quantized import (
    load_quantized,
    quantize,
    quantize_units,
    save_quantized,
    stored_scales,
    tensors_on_grid,
)

UNITS = [Unit("m.top", "m", 0, 2, 5), Unit("m.rest", "m", 2, 7, 5), Unit("n", "n", 0, 3, 4)]


def tensors():
    """Two matrices and a vector."""
    torch.manual_seed(0)
    return {"m": torch.randn(7, 5), "n": torch.randn(3, 4), "bias": torch.randn(3)}


@pytest.mark.parametrize("bits", GRID_BITS)
def test_values_survive_rounding_again(bits):
    """Rounding what is on the grid already, at its scales, changes nothing."""
    first = quantize(torch.randn(6, 9), bits, Granularity("block", 4))
    again = quantize(first.values(), bits, first.granularity, first.scales.float())
    assert torch.equal(first.codes, again.codes) and torch.equal(first.values(), again.values())


def test_scales_are_float16_where_that_is_cheap():
    """Scales of usual sizes are stored in half; those that half would change by more than 1e-3, or lose, in float32."""
    usual = torch.logspace(-4, 1, 50)[:, None]
    assert stored_scales(usual).dtype == torch.float16
    assert ((stored_scales(usual).float() - usual).abs() <= 1e-3 * usual).all()
    for awkward in (1e-7, 1e5):
        assert stored_scales(torch.tensor([[0.1], [awkward]])).dtype == torch.float32
    assert stored_scales(torch.zeros(2, 1)).dtype == torch.float16


def test_files_hold_what_was_put_in(tmp_path):
    """Codes, scales, widths and granularity come back equal."""
    precision = PrecisionMap({"m.top": 1, "m.rest": 4, "n": 32})
    before = quantize_units(tensors(), UNITS, precision, Granularity("block", 2))
    save_quantized(tmp_path / "quant.safetensors", before)
    after = load_quantized(tmp_path / "quant.safetensors")
    assert after.keys() == before.keys() == {"m.top", "m.rest"}
    for name, unit in before.items():
        assert (unit.bits, unit.granularity) == (after[name].bits, after[name].granularity)
        assert torch.equal(unit.codes, after[name].codes) and torch.equal(unit.scales, after[name].scales)


def test_damaged_or_absent_files_are_refused(tmp_path):
    """Cut short: an error that names the file; absent: a missing input."""
    path = tmp_path / "quant.safetensors"
    with pytest.raises(MissingInputError):
        load_quantized(path)
    save_quantized(
        path, quantize_units(tensors(), UNITS, PrecisionMap.uniform(["m.top", "m.rest", "n"], 2), Granularity())
    )
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(MpqError, match=r"quant\.safetensors"):
        load_quantized(path)


def test_a_model_on_its_grids():
    """Quantized rows are the grid's, 16-bit rows and biases are what float16 holds, 32-bit rows are untouched."""
    precision = PrecisionMap({"m.top": 2, "m.rest": 16, "n": 32})
    before = tensors()
    quantized = quantize_units(before, UNITS, precision, Granularity())
    after = tensors_on_grid(before, UNITS, precision, quantized)
    assert torch.equal(after["m"][:2], quantized["m.top"].values())
    assert torch.equal(after["m"][2:], before["m"][2:].half().float())
    assert torch.equal(after["n"], before["n"])
    assert torch.equal(after["bias"], before["bias"].half().float())
    untouched = tensors_on_grid(before, UNITS, PrecisionMap.uniform(["m.top", "m.rest", "n"], 32), {})
    assert all(torch.equal(untouched[name], before[name]) for name in before)


def test_weights_that_half_cannot_hold_are_refused():
    """70000 does not become infinity unnoticed."""
    with pytest.raises(MpqError, match="float16"):
        tensors_on_grid(
            {**tensors(), "bias": torch.tensor([7e4])}, UNITS, PrecisionMap.uniform(["m.top", "m.rest", "n"], 16), {}
        )
