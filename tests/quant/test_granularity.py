# SPDX-License-Identifier: Apache-2.0
"""Granularities: shapes of scales, and which weights share one."""

import pytest
import torch

from kaldi_mpq.errors import ConfigError
from kaldi_mpq.quant.granularity import Granularity

ALL = [
    Granularity("tensor"),
    Granularity("row"),
    Granularity("block", 4),
    Granularity("block", 5),
    Granularity("block", 64),
]


@pytest.mark.parametrize("granularity", ALL, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (3, 10), (4, 13), (2, 64)])
def test_groups_and_expansion_agree(granularity, shape):
    """Weights yielded as one group get one scale when scales are expanded, and every weight is in exactly one group."""
    rows, columns = shape
    matrix = torch.arange(rows * columns, dtype=torch.float32).view(shape)
    scales = torch.zeros(granularity.shape(rows, columns))
    seen = []
    for part, groups in granularity.groups(matrix):
        seen.append(groups.flatten())
        scales[:, part] = groups.mean(dim=1).view(len(scales), -1)
    assert torch.equal(torch.cat(seen).sort().values, matrix.flatten())
    expanded = granularity.expand(scales, columns).expand(shape)
    for number in scales.unique():  # the mean of the weights that share a scale is that scale
        assert torch.isclose(matrix[expanded == number].mean(), number)
    assert granularity.counts(rows, columns).sum() == rows * columns
    assert granularity.counts(rows, columns).shape == scales.shape


def test_bad_granularities_are_refused():
    """A block without a size, a size without blocks, and an unknown kind."""
    for kind, block in (("block", 0), ("row", 8), ("column", 0), ("block", -1)):
        with pytest.raises(ConfigError):
            Granularity(kind, block)
