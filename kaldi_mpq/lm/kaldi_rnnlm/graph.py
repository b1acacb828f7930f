# SPDX-License-Identifier: Apache-2.0
"""What the nodes of an nnet3 network compute, as affine functions of atoms: nonlinear nodes and the network's input.

    value(node) = bias + sum over atoms of matrix . atom(t + delay)

Affine components, scales, sums, appends and ranges of rows are folded into the matrices, so that a network's layers are
found whatever their nodes are called. An atom is not looked into until asked (`Graph.input_of`): every recurrence that
can be computed passes through one. Not here: which patterns of atoms are LSTM cells (`cells`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kaldi_mpq.errors import ModelFileError
from kaldi_mpq.lm.kaldi_rnnlm.descriptor import Call, parse
from kaldi_mpq.lm.kaldi_rnnlm.nnet3 import SUPPORTED, Component, Network

__all__ = ["Affine", "Atom", "Graph", "is_identity", "stacked"]


class Atom(NamedTuple):
    """The output of a nonlinear node, or of one of its parts, at a time relative to now.

    Args:
      node: name of the node.
      part: ``cell`` or ``output`` of a node of an LstmNonlinearityComponent, else empty.
      delay: 0 is now, -1 the word before.
    """

    node: str
    part: str = ""
    delay: int = 0

    def __str__(self) -> str:
        return ".".join(filter(None, (self.node, self.part))) + (f" at {self.delay:+}" if self.delay else "")


@dataclass(frozen=True)
class Affine:
    """A vector of D values: (D, dim of atom) matrix of each atom, all-zero ones left out, and (D,) bias; float32."""

    terms: Mapping[Atom, np.ndarray]
    bias: np.ndarray

    def __len__(self) -> int:
        return len(self.bias)

    def rows(self, start: int, stop: int) -> Affine:
        """Return a range of the values."""
        return _pruned({atom: matrix[start:stop] for atom, matrix in self.terms.items()}, self.bias[start:stop])

    def through(self, weight: np.ndarray, bias: np.ndarray | None = None) -> Affine:
        """Return weight . self + bias, products summed in float64."""
        total = weight.astype(np.float64) @ self.bias + (0 if bias is None else bias)
        return _pruned({atom: _product(weight, matrix) for atom, matrix in self.terms.items()}, _float32(total))

    def scaled(self, factors: np.ndarray | float) -> Affine:
        """Return every value times its factor."""
        scaled = {atom: (matrix.T * np.float32(factors)).T for atom, matrix in self.terms.items()}
        return _pruned(scaled, _float32(self.bias * factors))

    def delayed(self, steps: int) -> Affine:
        """Return the values ``steps`` words later (negative: earlier)."""
        moved = {atom._replace(delay=atom.delay + steps): matrix for atom, matrix in self.terms.items()}
        return replace(self, terms=moved)


class Graph:
    """The nodes of a network as affine functions.

    Args:
      network: what `read_network` returned.
      path: its file, named in errors.
    """

    def __init__(self, network: Network, path: Path) -> None:
        self.network, self.path = network, path
        self._values: dict[str, Affine | None] = {}  # None: being computed

    def refuse(self, found: str) -> ModelFileError:
        """Return the error for a network that is well-formed but not supported."""
        return ModelFileError("not a supported network", where=self.path, expected=SUPPORTED, found=found)

    def fault(self, what: str) -> ModelFileError:
        """Return the error for a network that nnet3 would not take either."""
        return ModelFileError(f"damaged network: {what}", where=self.path)

    def value(self, name: str) -> Affine:
        """Return the value of a node.

        Raises:
          ModelFileError: the network is inconsistent, or has what is not supported.
        """
        if name not in self._values:
            self._values[name] = None
            self._values[name] = self._node(name)
        value = self._values[name]
        if value is None:
            raise self.refuse(f"a recurrence through {name} that is no LSTM's")
        return value

    def input_of(self, name: str) -> Affine:
        """Return what a component-node or output-node reads."""
        text = self._key(name, "input")
        try:
            tree = parse(text)
        except ValueError as error:
            raise self.fault(f"node {name}: {error}") from error
        return self._descriptor(tree, name, may_be_undefined=False)

    def component(self, name: str) -> Component | None:
        """Return the component of a node, None where it has none."""
        if name not in self.network.nodes or self.network.nodes[name].kind != "component-node":
            return None
        component = self._key(name, "component")
        if component not in self.network.components:
            raise self.fault(f"node {name} has no component {component}")
        return self.network.components[component]

    def _node(self, name: str) -> Affine:
        if name not in self.network.nodes:
            raise self.fault(f"no node {name}")
        node = self.network.nodes[name]
        if node.kind == "input-node":
            return _atoms(Atom(name), dim=self._number(name, "dim"))
        if node.kind == "output-node":
            return self.input_of(name)
        if node.kind == "dim-range-node":
            whole, start = self.value(self._key(name, "input-node")), self._number(name, "dim-offset")
            stop = start + self._number(name, "dim")
            if not 0 <= start < stop <= len(whole):
                raise self.fault(f"node {name} takes rows {start} to {stop} of {len(whole)}")
            return whole.rows(start, stop)
        component = self.component(name)
        if component.type in _NONLINEAR:
            return _atoms(*(Atom(name, part) for part in _NONLINEAR[component.type][1]), dim=_dim_of(component))
        source = self.input_of(name)
        dim = _dims_in(component)
        if dim != len(source):
            raise self.fault(f"component {node.keys['component']} takes {dim} values, its input has {len(source)}")
        if component.values.get("Scale", 1.0) != 1.0:
            raise self.refuse(f"{node.keys['component']} with scale={component.values['Scale']:g} (decay-time)")
        return _apply(component, source)

    def _descriptor(self, tree: Call | str, name: str, may_be_undefined: bool) -> Affine:
        if isinstance(tree, str):
            return self.value(tree)
        arguments = tree.arguments
        if tree.name == "Offset" and len(arguments) == 2 and may_be_undefined:
            value = self._descriptor(arguments[0], name, may_be_undefined)
            if value.bias.any():  # before the first word there is nothing, not the bias
                raise self.refuse(f"a biased value of the word before, read by {name} (lstmp-layer?)")
            return value.delayed(int(str(arguments[1])))
        if tree.name == "IfDefined" and len(arguments) == 1:
            return self._descriptor(arguments[0], name, may_be_undefined=True)
        if tree.name == "Scale" and len(arguments) == 2:
            return self._descriptor(arguments[1], name, may_be_undefined).scaled(float(str(arguments[0])))
        if tree.name not in ("Append", "Sum"):
            raise self.refuse(f"{tree.name}(...) read by {name}")
        parts = [self._descriptor(argument, name, may_be_undefined) for argument in arguments]
        if tree.name == "Append":
            return stacked(parts)
        if len({len(part) for part in parts}) > 1:
            raise self.fault(f"node {name} reads a sum of vectors of {', '.join(str(len(part)) for part in parts)}")
        return _sum(parts)

    def _key(self, name: str, key: str) -> str:
        if key not in self.network.nodes[name].keys:
            raise self.fault(f"node {name} has no {key}")
        return self.network.nodes[name].keys[key]

    def _number(self, name: str, key: str) -> int:
        text = self._key(name, key)
        if not text.isdecimal():
            raise self.fault(f"node {name} has {key}={text}")
        return int(text)


# Nonlinear components: dimension of each part of the output, and the parts.
_NONLINEAR: dict[str, tuple[Callable[[Component], int], tuple[str, ...]]] = {
    "SigmoidComponent": (lambda component: component.values["Dim"], ("",)),
    "TanhComponent": (lambda component: component.values["Dim"], ("",)),
    "ElementwiseProductComponent": (lambda component: component.values["OutputDim"], ("",)),
    "LstmNonlinearityComponent": (lambda component: component.values["Params"].shape[1], ("cell", "output")),
}


def is_identity(matrix: np.ndarray) -> bool:
    """Return whether a matrix is the identity, exactly."""
    rows, columns = matrix.shape
    return rows == columns and np.count_nonzero(matrix) == rows and bool((np.diagonal(matrix) == 1).all())


def _dim_of(component: Component) -> int:
    return _NONLINEAR[component.type][0](component)


def _dims_in(component: Component) -> int:
    values = component.values
    matrix = values.get("LinearParams", values.get("Params"))
    return int(values["Dim"]) if matrix is None else matrix.shape[-1]


def _apply(component: Component, source: Affine) -> Affine:
    """Return the value of an affine component, given that of its input."""
    values = component.values
    if "LinearParams" in values:
        return source.through(values["LinearParams"], values["BiasParams"])
    if component.type == "LinearComponent":
        return source.through(values["Params"])
    return source.scaled(values["Params"]) if "Params" in values else source


def _atoms(*atoms: Atom, dim: int) -> Affine:
    """Return atoms of one dimension, appended."""
    eye = np.eye(dim * len(atoms), dtype=np.float32)
    terms = {atom: eye[:, k * dim : (k + 1) * dim] for k, atom in enumerate(atoms)}
    return Affine(terms, np.zeros(dim * len(atoms), np.float32))


def stacked(parts: Sequence[Affine]) -> Affine:
    """Return vectors appended."""
    columns = {atom: matrix.shape[1] for part in parts for atom, matrix in part.terms.items()}
    terms = {}
    for atom, width in columns.items():
        blocks = [part.terms.get(atom, np.zeros((len(part), width), np.float32)) for part in parts]
        terms[atom] = np.concatenate(blocks)
    return Affine(terms, np.concatenate([part.bias for part in parts]))


def _sum(parts: Sequence[Affine]) -> Affine:
    terms: dict[Atom, np.ndarray] = {}
    for part in parts:
        for atom, matrix in part.terms.items():
            terms[atom] = terms[atom] + matrix if atom in terms else matrix
    return _pruned(terms, np.sum([part.bias for part in parts], axis=0, dtype=np.float32))


def _product(weight: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return weight . matrix; a matrix that picks rows picks columns of the weight, which stay as they are."""
    picked = np.flatnonzero(matrix.any(axis=1))
    if len(picked) == matrix.shape[1] and is_identity(matrix[picked]):
        return weight[:, picked]
    return _float32(weight.astype(np.float64) @ matrix)


def _pruned(terms: Mapping[Atom, np.ndarray], bias: np.ndarray) -> Affine:
    return Affine({atom: matrix for atom, matrix in terms.items() if matrix.any()}, bias)


def _float32(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)
