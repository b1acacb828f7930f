# SPDX-License-Identifier: Apache-2.0
"""A stack of LSTM layers as an nnet3 file, with the nodes and components of ``fast-lstm-layer`` and ``output-layer``.

Numbers that only steer training in Kaldi (learning rates, truncation) are what xconfig gives.

Not here: reading (`nnet3`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from kaldi_mpq.lm.kaldi_rnnlm.cells import Cell
from kaldi_mpq.lm.kaldi_rnnlm.objects import matrix_bytes

__all__ = ["network_bytes"]

_LEARNING_RATE = 0.001
_Field = tuple[str, "np.ndarray | int | float | None"]  # None: a count of 8 bytes, still 0
_NODES = """\
component-node name={name}.W_all component={name}.W_all input=Append({below}, IfDefined(Offset({name}.m_trunc, -1)))
component-node name={name}.lstm_nonlin component={name}.lstm_nonlin \
input=Append({name}.W_all, IfDefined(Offset({name}.c_trunc, -1)))
dim-range-node name={name}.m input-node={name}.lstm_nonlin dim-offset={cells} dim={cells}
component-node name={name}.cm_trunc component={name}.cm_trunc input={name}.lstm_nonlin
dim-range-node name={name}.c_trunc input-node={name}.cm_trunc dim-offset=0 dim={cells}
dim-range-node name={name}.m_trunc input-node={name}.cm_trunc dim-offset={cells} dim={cells}
"""


def network_bytes(cells: Sequence[Cell], matrix: np.ndarray, bias: np.ndarray, *, text: bool = False) -> bytes:
    """Return the file.

    Args:
      cells: the layers, the lowest first; which atom each reads is not looked at.
      matrix, bias: (E, C) and (E,), the output over the highest layer.
      text: write the text form.
    """
    nodes = f"input-node name=input dim={cells[0].ih.shape[1]}\n"
    components = []
    below = "input"
    for number, cell in enumerate(cells, start=1):
        name, size = f"lstm{number}", cell.hh.shape[1]
        nodes += _NODES.format(name=name, below=below, cells=size)
        affine = _affine(np.concatenate([cell.ih, cell.hh], axis=1), cell.bias)
        components.append((f"{name}.W_all", "NaturalGradientAffineComponent", affine))
        components.append((f"{name}.lstm_nonlin", "LstmNonlinearityComponent", _nonlinearity(cell)))
        components.append((f"{name}.cm_trunc", "BackpropTruncationComponent", _truncation(2 * size)))
        below = f"{name}.m"
    nodes += f"component-node name=output.affine component=output.affine input={below}\n"
    nodes += "output-node name=output input=output.affine objective=linear\n"
    components.append(("output.affine", "NaturalGradientAffineComponent", _affine(matrix, bias)))
    head = f"<Nnet3> \n{nodes}\n<NumComponents> ".encode()
    body = b"".join(_component(*component, text) for component in components)
    count = _value(len(components), text)
    return (b"" if text else b"\0B") + head + count + (b"\n" if text else b"") + body + b"</Nnet3> "


def _affine(weight: np.ndarray, bias: np.ndarray) -> list[_Field]:
    outputs, inputs = weight.shape
    return [
        ("MaxChange", 0.75),
        ("LearningRate", _LEARNING_RATE),
        ("LinearParams", weight),
        ("BiasParams", bias),
        ("RankIn", min(20, (inputs + 1) // 2)),
        ("RankOut", min(80, (outputs + 1) // 2)),
        ("UpdatePeriod", 4),
        ("NumSamplesHistory", 2000.0),
        ("Alpha", 4.0),
    ]


def _nonlinearity(cell: Cell) -> list[_Field]:
    size = cell.hh.shape[1]
    zeros = np.zeros((5, size), np.float32)
    repair = np.array([0.05, 0.05, 0.2, 0.05, 0.2] + 5 * [1e-5], np.float32)  # thresholds, scales
    return [
        ("MaxChange", 0.75),
        ("LearningRate", _LEARNING_RATE),
        ("Params", cell.peephole.reshape(3, size)),
        ("ValueAvg", zeros),
        ("DerivAvg", zeros),
        ("SelfRepairConfig", repair),
        ("SelfRepairProb", np.zeros(5, np.float32)),
        ("Count", None),
    ]


def _truncation(dim: int) -> list[_Field]:
    counts = ("NumElementsClipped", "NumElementsZeroed", "NumElementsProcessed", "NumZeroingBoundaries")
    return [
        ("Dim", dim),
        ("Scale", 1.0),
        ("ClippingThreshold", 30.0),
        ("ZeroingThreshold", 15.0),
        ("ZeroingInterval", 20),
        ("RecurrenceInterval", 1),
        *((name, None) for name in counts),
    ]


def _component(name: str, kind: str, fields: Sequence[_Field], text: bool) -> bytes:
    body = b"".join(f"<{field}> ".encode() + _value(value, text) for field, value in fields)
    return f"<ComponentName> {name} <{kind}> ".encode() + body + f"</{kind}> ".encode() + (b"\n" if text else b"")


def _value(value: np.ndarray | int | float | None, text: bool) -> bytes:
    if isinstance(value, np.ndarray):
        return matrix_bytes(value, text=text)
    if text:
        return f"{0 if value is None else value:g} ".encode()
    if value is None:
        return b"\x08" + bytes(8)
    return b"\x04" + struct.pack("<i" if isinstance(value, int) else "<f", value)
