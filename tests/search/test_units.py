# SPDX-License-Identifier: Apache-2.0
"""Groups are all units of a model, each once, under the split that was asked for."""

import pytest

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.pack.units import matching_units
from kaldi_mpq.search.units import groups_of, precision_of


@pytest.mark.parametrize("split", ["sublayer", "gate", "matrix", "rows3"])
def test_groups_are_the_units_of_the_packed_file(kind, split, make_model):
    """A precision map made of groups fits the model, and gives each unit its group's width."""
    model = make_model(kind)
    groups = groups_of(model, split)
    bits = {group.name: width for group, width in zip(groups, [1, 2, 4, 8] * len(groups))}
    precision = precision_of(groups, bits)
    units = matching_units(model, precision)
    assert sorted(unit.name for group in groups for unit in group.units) == sorted(unit.name for unit in units)
    assert all(precision[unit.name] == bits[group.name] for group in groups for unit in group.units)
    matrices = sum(each.numel() for each in model.parameters() if each.dim() == 2)
    assert sum(group.count for group in groups) == matrices


def test_a_gate_is_both_its_matrices_and_a_sublayer_all_of_its(make_model):
    """The paper's units: 2 + 4 per LSTM layer, 2 + 2 per Transformer layer, untied."""
    lstm = groups_of(make_model("lstm", tied=False), "sublayer")
    gates = [f"layers.0.{gate}" for gate in ("input", "forget", "cell", "output")]
    assert [group.name for group in lstm[:6]] == ["embedding", "output", *gates]
    assert {unit.name for unit in lstm[3].units} == {"layers.0.ih.forget", "layers.0.hh.forget"}
    assert len(lstm) == 2 + 2 * 4
    transformer = groups_of(make_model("transformer", tied=False), "sublayer")
    assert len(transformer) == 2 + 2 * 2
    sizes = {group.name: len(group.units) for group in transformer}
    assert sizes["blocks.1.attention"] == 4
    assert sizes["blocks.1.feed_forward"] == 2


def test_row_blocks_end_where_the_matrix_ends(make_model):
    """11 rows in blocks of 4 are 4, 4 and 3; gates that are small enough stay whole."""
    groups = groups_of(make_model("lstm"), "rows4")
    assert [group.name for group in groups[:3]] == ["embedding.rows0-4", "embedding.rows4-8", "embedding.rows8-11"]
    assert groups[3].name == "layers.0.ih.input"


@pytest.mark.parametrize("split", ["layer", "rows", "rows0", "rows-3", "Gate"])
def test_other_splits_are_refused(split, make_model):
    """What is no split is an error that lists them."""
    with pytest.raises(ConfigError, match="gate, matrix or rowsN"):
        groups_of(make_model(), split)
