# SPDX-License-Identifier: Apache-2.0
"""Networks are read alike from both forms, and damaged files are refused."""

from __future__ import annotations

import numpy as np
import pytest

from kaldi_mpq.errors import MissingInputError, ModelFileError
from kaldi_mpq.lm.kaldi_rnnlm.cells import stacked_cells
from kaldi_mpq.lm.kaldi_rnnlm.graph import Graph
from kaldi_mpq.lm.kaldi_rnnlm.network_file import network_bytes
from kaldi_mpq.lm.kaldi_rnnlm.nnet3 import Network, read_network
from kaldi_mpq.lm.kaldi_rnnlm.objects import matrix_bytes, read_matrix
from tests.lm.kaldi_rnnlm.networks import TOYS, Toy

EVERY_COMPONENT = """\
input-node name=input dim=3
component name=A type=NaturalGradientAffineComponent input-dim=3 output-dim=4 max-change=0.75
component-node name=A component=A input=input
component name=B type=LinearComponent input-dim=4 output-dim=2
component-node name=B component=B input=A
component name=C type=NaturalGradientPerElementScaleComponent dim=2 param-mean=0 param-stddev=1
component-node name=C component=C input=B
component name=D type=SigmoidComponent dim=2
component-node name=D component=D input=C
component name=E type=TanhComponent dim=2
component-node name=E component=E input=Sum(D, Scale(0.5, D))
component name=F type=ElementwiseProductComponent input-dim=4 output-dim=2
component-node name=F component=F input=Append(D, E)
component name=G type=BackpropTruncationComponent dim=2 scale=0.9
component-node name=G component=G input=F
component name=H type=NoOpComponent dim=2
component-node name=H component=H input=G
component name=I type=AffineComponent input-dim=2 output-dim=10
component-node name=I component=I input=H
component name=J type=LstmNonlinearityComponent cell-dim=2
component-node name=J component=J input=I
component name=K type=PerElementScaleComponent dim=4
component-node name=K component=K input=J
dim-range-node name=L input-node=K dim-offset=0 dim=3
output-node name=output input=L
"""


def assert_same(one: Network, other: Network, rtol: float = 0.0) -> None:
    """Assert equal nodes and components."""
    assert dict(one.nodes) == dict(other.nodes)
    assert list(one.components) == list(other.components)
    for name, component in one.components.items():
        assert component.type == other.components[name].type
        assert component.values.keys() == other.components[name].values.keys()
        for key, value in component.values.items():
            assert np.allclose(value, other.components[name].values[key], rtol=rtol, atol=rtol), (name, key)


def test_kaldis_files_are_read_alike_in_both_forms(kaldi, tmp_path):
    """What nnet3-init writes, with every type of component that is supported, is the same in binary and text."""
    config = tmp_path / "config"
    config.write_text(EVERY_COMPONENT)
    kaldi(f"nnet3-init {config} {tmp_path}/binary; nnet3-copy --binary=false {tmp_path}/binary {tmp_path}/text")
    binary, text = read_network(tmp_path / "binary"), read_network(tmp_path / "text")
    assert_same(binary, text, rtol=1e-6)
    assert (tmp_path / "binary").read_bytes()[:2] == b"\0B"
    values = {name: component.values for name, component in binary.components.items()}
    assert values["G"]["Scale"] == np.float32(0.9) and values["G"]["Dim"] == 2
    assert values["A"]["LinearParams"].shape == (4, 3) and values["J"]["Params"].shape == (3, 2)
    assert values["C"]["Params"].any() and values["F"] == {"InputDim": 4, "OutputDim": 2}
    assert binary.nodes["E"].keys["input"] == "Sum(D, Scale(0.5, D))"


@pytest.fixture
def binary(tmp_path):
    """A network that we wrote in binary form."""
    (tmp_path / "toy").write_text(TOYS["fast"]().raw())
    cells, matrix, bias = stacked_cells(Graph(read_network(tmp_path / "toy"), tmp_path / "toy"))
    (tmp_path / "final.raw").write_bytes(network_bytes(cells, matrix, bias))
    (tmp_path / "final.txt").write_bytes(network_bytes(cells, matrix, bias, text=True))
    return tmp_path / "final.raw"


def test_our_own_files_are_read_back_exactly(binary):
    """Both forms that we write hold every bit of the weights."""
    assert_same(read_network(binary), read_network(binary.with_suffix(".txt")))
    toy = read_network(binary.with_name("toy")).components["lstm2.W_all"]
    assert np.array_equal(read_network(binary).components["lstm2.W_all"].values["BiasParams"], toy.values["BiasParams"])


@pytest.mark.parametrize("form", ["final.raw", "final.txt"])
def test_every_truncation_is_noticed(binary, form):
    """A file cut anywhere is a ModelFileError that names it, never a network and never another exception."""
    path = binary.with_name(form)
    whole = path.read_bytes().rstrip()
    for size in [*range(0, len(whole) - 1, 37), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ModelFileError, match=form):
            read_network(path)


def test_changed_bytes_are_errors_of_ours(binary):
    """Random damage gives a network or a ModelFileError, nothing else."""
    whole = bytearray(binary.read_bytes())
    random = np.random.default_rng(0)
    failures = 0
    for _ in range(300):
        damaged = whole.copy()
        for place in random.integers(0, len(whole), 3):
            damaged[place] = random.integers(256)
        binary.write_bytes(damaged)
        try:
            Graph(read_network(binary), binary).value("output")
        except ModelFileError:
            failures += 1
    assert failures > 100


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"", "an empty file"), (b"\0B<TransitionModel> ", "'<TransitionModel>'"), (b"hello\n", "'hello'")],
)
def test_other_files_are_refused(content, found, tmp_path):
    """An acoustic model, an empty file or any other says what was found instead of <Nnet3>."""
    (tmp_path / "final.raw").write_bytes(content)
    with pytest.raises(ModelFileError, match=rf"not an nnet3 network, expected <Nnet3>.*found {found}"):
        read_network(tmp_path / "final.raw")
    with pytest.raises(MissingInputError, match=r"final\.mdl"):
        read_network(tmp_path / "final.mdl")


def test_a_circle_without_a_cell_is_refused(tmp_path):
    """Nodes that feed themselves through affine layers alone compute nothing."""
    toy = Toy().affine("one", 5)
    toy.nodes[-1] = toy.nodes[-1].replace("input=input", "input=Sum(input, IfDefined(Offset(one, -1)))")
    (tmp_path / "final.raw").write_text(toy.raw())
    with pytest.raises(ModelFileError, match=r"a recurrence through one that is no LSTM's"):
        Graph(read_network(tmp_path / "final.raw"), tmp_path / "final.raw").value("output")


@pytest.mark.parametrize("shape", [(3, 4), (1, 5), (6, 1)])
def test_matrices_are_written_as_kaldi_reads_them(shape, kaldi, tmp_path):
    """Kaldi copies our binary and text matrices to the same numbers, and we read its copies."""
    matrix = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    for name, text in (("binary", False), ("text", True)):
        (tmp_path / name).write_bytes((b"" if text else b"\0B") + matrix_bytes(matrix, text=text))
        kaldi(f"copy-matrix {tmp_path}/{name} {tmp_path}/{name}.copy")
        assert np.array_equal(read_matrix(tmp_path / f"{name}.copy"), matrix)
        assert np.array_equal(read_matrix(tmp_path / name), matrix)


def test_doubles_are_read(kaldi, tmp_path):
    """A matrix of doubles, as some tools write it, becomes float32."""
    double = b"\0BDM \4\1\0\0\0\4\2\0\0\0" + np.array([1.5, -2.0]).tobytes()
    (tmp_path / "matrix").write_bytes(double)
    assert read_matrix(tmp_path / "matrix").tolist() == [[1.5, -2.0]]
