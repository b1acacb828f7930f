# SPDX-License-Identifier: Apache-2.0
"""The LSTM cells of a network: recognised by what they compute, whatever their nodes are called.

    i_t = sigmoid(W_i x_t + R_i m_{t-1} + p_i c_{t-1} + b_i)        f_t likewise
    g_t = tanh(W_c x_t + R_c m_{t-1} + b_c)
    c_t = f_t c_{t-1} + i_t g_t
    o_t = sigmoid(W_o x_t + R_o m_{t-1} + p_o c_t + b_o)
    m_t = o_t tanh(c_t)

A fast-lstm-layer has all but the matrices in one component, an lstm-layer one component for every sigmoid, tanh,
product and peephole (p). Not here: how affine layers around cells are folded (`graph`).

Paper: Sak, Senior and Beaufays, "Long short-term memory recurrent neural network architectures", 2014, eq. (1)-(5).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kaldi_mpq.lm.kaldi_rnnlm.graph import Affine, Atom, Graph, is_identity, stacked

__all__ = ["Cell", "stacked_cells"]


@dataclass(frozen=True)
class Cell:
    """One layer of C cells over D inputs; gates in the order input, forget, cell, output.

    Args:
      below: the atom that it reads.
      ih, hh, bias: (4C, D), (4C, C) and (4C,).
      peephole: (3C,) of input, forget and output gate.
    """

    below: Atom
    ih: np.ndarray
    hh: np.ndarray
    bias: np.ndarray
    peephole: np.ndarray


def stacked_cells(graph: Graph) -> tuple[list[Cell], np.ndarray, np.ndarray]:
    """Return the layers, the lowest first, and the output's (E, C) matrix and (E,) bias over the highest.

    Raises:
      ModelFileError: the network is not a stack of LSTM layers between its nodes ``input`` and ``output``.
    """
    for name, kind in (("input", "input-node"), ("output", "output-node")):
        if name not in graph.network.nodes or graph.network.nodes[name].kind != kind:
            raise graph.refuse(f"no {kind} named {name}")
    output = graph.value("output")
    if len(output.terms) != 1:
        raise graph.refuse(f"an output of {_listed(output.terms)} instead of one LSTM layer")
    atom, matrix = next(iter(output.terms.items()))
    cells: list[Cell] = []
    seen = set()
    while atom != Atom("input"):
        if atom in seen:
            raise graph.refuse(f"layers in a circle through {atom}")
        seen.add(atom)
        cells.append(_cell(graph, atom))
        atom = cells[-1].below
    if not cells:
        raise graph.refuse("no LSTM layer")
    return cells[::-1], matrix, output.bias


def _cell(graph: Graph, output: Atom) -> Cell:
    """Return the layer whose output an atom is."""
    component = graph.component(output.node)
    if output.delay or component is None:
        raise graph.refuse(f"{output} read by the layer above")
    if component.type == "LstmNonlinearityComponent" and output.part == "output":
        gates, peephole = _fast_gates(graph, output, component.values["Params"])
    elif component.type == "ElementwiseProductComponent":
        gates, peephole = _slow_gates(graph, output)
    else:
        raise graph.refuse(f"{output} ({component.type}) where an LSTM layer's output is expected")
    terms = dict(gates.terms)
    cells = len(gates) // 4
    hh = terms.pop(output._replace(delay=-1), np.zeros((4 * cells, cells), np.float32))
    if len(terms) != 1:
        raise graph.refuse(f"an LSTM layer {output} over {_listed(terms)} instead of one layer and itself")
    below, ih = next(iter(terms.items()))
    return Cell(below, ih, hh, gates.bias, peephole)


def _fast_gates(graph: Graph, output: Atom, params: np.ndarray) -> tuple[Affine, np.ndarray]:
    """Return what goes into the four gates, and the peepholes, of an LstmNonlinearityComponent."""
    source = graph.input_of(output.node)
    rows, cells = params.shape
    if rows != 3 or len(source) != 5 * cells:
        raise graph.refuse(f"{output.node}: {len(source)} inputs for {cells} cells (dropout?)")
    _check_carried(graph, source.rows(4 * cells, 5 * cells), {Atom(output.node, "cell", -1)}, output)
    return source.rows(0, 4 * cells), params.reshape(-1)


def _slow_gates(graph: Graph, output: Atom) -> tuple[Affine, np.ndarray]:
    """Return what goes into the four gates, and the peepholes, of a cell made of single components."""
    o, h = (_factor(graph, output, half, kind) for half, kind in enumerate(("SigmoidComponent", "TanhComponent")))
    state = graph.input_of(h.node)
    products = sorted(state.terms, key=lambda atom: not any(read.delay for read in graph.input_of(atom.node).terms))
    if len(products) != 2 or not all(map(is_identity, state.terms.values())) or state.bias.any():
        raise graph.refuse(f"a cell state of {_listed(state.terms)} in {h.node} instead of two products")
    kept, new = products  # f_t c_{t-1} and i_t g_t
    f = _factor(graph, kept, 0, "SigmoidComponent")
    i, g = (_factor(graph, new, half, kind) for half, kind in enumerate(("SigmoidComponent", "TanhComponent")))
    _check_carried(graph, _half(graph, kept, 1), {atom._replace(delay=-1) for atom in products}, output)
    now, before = set(products), {atom._replace(delay=-1) for atom in products}
    sources, peepholes = [], []
    for gate, state_read in ((i, before), (f, before), (g, None), (o, now)):
        source = graph.input_of(gate.node)
        if state_read is not None:
            source, peephole = _without_peephole(graph, source, state_read, gate)
            peepholes.append(peephole)
        sources.append(source)
    return stacked(sources), np.concatenate(peepholes)


def _half(graph: Graph, product: Atom, half: int) -> Affine:
    """Return one of the two vectors that an ElementwiseProductComponent multiplies."""
    component, source = graph.component(product.node), graph.input_of(product.node)
    if component is None or component.type != "ElementwiseProductComponent" or product.delay:
        raise graph.refuse(f"{product} where a product is expected")
    dim = component.values["OutputDim"]
    if len(source) != 2 * dim:
        raise graph.refuse(f"a product of {len(source)} values to {dim} in {product}")
    return source.rows(half * dim, (half + 1) * dim)


def _factor(graph: Graph, product: Atom, half: int, kind: str) -> Atom:
    """Return the nonlinear node, of a type, that is a factor of a product as it is."""
    value = _half(graph, product, half)
    atom, matrix = next(iter(value.terms.items()), (None, None))
    component = graph.component(atom.node) if atom else None
    plain = len(value.terms) == 1 and is_identity(matrix) and not value.bias.any() and not atom.delay
    if not plain or component is None or component.type != kind:
        raise graph.refuse(f"{product}: a product with {_listed(value.terms)} instead of a {kind}")
    return atom


def _check_carried(graph: Graph, carried: Affine, state: set[Atom], output: Atom) -> None:
    """Raise unless the cell state comes back from the word before as it was."""
    if carried.terms.keys() != state or not all(map(is_identity, carried.terms.values())) or carried.bias.any():
        raise graph.refuse(f"LSTM layer {output}: {_listed(carried.terms)} instead of its own state at -1, as it was")


def _without_peephole(graph: Graph, source: Affine, state: set[Atom], gate: Atom) -> tuple[Affine, np.ndarray]:
    """Return what goes into a gate without the cell state, and the state's (C,) factors."""
    read = {atom: matrix for atom, matrix in source.terms.items() if atom in state}
    if not read:
        return source, np.zeros(len(source), np.float32)
    first, *others = read.values()
    diagonal = np.diagonal(first)
    both = len(read) == 2 and all(np.array_equal(first, other) for other in others)
    if not both or np.count_nonzero(first) != np.count_nonzero(diagonal):
        raise graph.refuse(f"gate {gate} reads the cell state other than through a diagonal matrix")
    rest = {atom: matrix for atom, matrix in source.terms.items() if atom not in state}
    return Affine(rest, source.bias), diagonal


def _listed(atoms: Iterable[Atom]) -> str:
    return ", ".join(sorted(map(str, atoms))) or "nothing"
