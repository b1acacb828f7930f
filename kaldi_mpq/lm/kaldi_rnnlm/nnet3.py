# SPDX-License-Identifier: Apache-2.0
"""A network of Kaldi's nnet3 as it is in a file: nodes and the components that we know, binary or text.

    <Nnet3> \\n
    component-node name=lstm1.W_all component=lstm1.W_all input=Append(input, IfDefined(Offset(lstm1.m_trunc, -1)))
    ...
    \\n
    <NumComponents> 7 <ComponentName> lstm1.W_all <NaturalGradientAffineComponent> <LinearParams> ... </Natural...> ...

Not here: what the network computes (`graph`), and how one is written (`network_file`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kaldi_mpq.errors import ModelFileError
from kaldi_mpq.lm.kaldi_rnnlm.objects import Cursor, check_finite, integer, open_cursor, real

__all__ = ["SUPPORTED", "Component", "Network", "Node", "read_network"]

_AFFINE = {"LinearParams": "matrix", "BiasParams": "vector"}
_FIELDS: dict[str, dict[str, str]] = {  # what is read of each component; the rest steers training
    "AffineComponent": _AFFINE,
    "NaturalGradientAffineComponent": _AFFINE,
    "FixedAffineComponent": _AFFINE,
    "LinearComponent": {"Params": "matrix"},
    "LstmNonlinearityComponent": {"Params": "matrix"},
    "PerElementScaleComponent": {"Params": "vector"},
    "NaturalGradientPerElementScaleComponent": {"Params": "vector"},
    "SigmoidComponent": {"Dim": "integer"},
    "TanhComponent": {"Dim": "integer"},
    "ElementwiseProductComponent": {"InputDim": "integer", "OutputDim": "integer"},
    "BackpropTruncationComponent": {"Dim": "integer", "Scale": "real"},
    "NoOpComponent": {"Dim": "integer"},
}
_DEFAULTS = {("BackpropTruncationComponent", "Scale"): 1.0}  # not in files of 2016
SUPPORTED = f"lstm-layer, fast-lstm-layer and affine layers: components of types {', '.join(_FIELDS)}"

_KEY = re.compile(r"(?:^|\s)([A-Za-z][\w-]*)=")
_NODES = ("input-node", "component-node", "dim-range-node", "output-node")


@dataclass(frozen=True)
class Component:
    """A component: its type and, by name, the arrays (float32) and numbers that the network's output depends on."""

    type: str
    values: Mapping[str, np.ndarray | int | float]


@dataclass(frozen=True)
class Node:
    """A node: ``input-node``, ``component-node``, ``dim-range-node`` or ``output-node``, and its keys as written."""

    kind: str
    keys: Mapping[str, str]


@dataclass(frozen=True)
class Network:
    """Nodes and components by name; the order is the file's."""

    nodes: Mapping[str, Node]
    components: Mapping[str, Component]


def read_network(path: Path) -> Network:
    """Return the network in a file.

    Raises:
      MissingInputError: no such file.
      ModelFileError: it is no nnet3 file, damaged or cut short; a component is of a type that is not supported (all
        such are named), or not finite.
    """
    cursor = open_cursor(path)
    first = cursor.token() if cursor.data[:64].strip() else ""
    if first != "<Nnet3>":
        found = repr(first[:40]) if first else "an empty file"
        raise ModelFileError("not an nnet3 network", where=path, expected="<Nnet3>, as nnet3-init writes", found=found)
    try:
        nodes = _read_nodes(cursor)
        components = _read_components(cursor)
    except ValueError as error:  # UnicodeDecodeError among them
        raise cursor.fault("damaged network", found=str(error)) from error
    if cursor.token() != "</Nnet3>":
        raise cursor.fault("damaged network: no </Nnet3>")
    return Network(nodes, components)


def _read_nodes(cursor: Cursor) -> dict[str, Node]:
    nodes = {}
    cursor.until(b"\n")
    while line := cursor.until(b"\n").decode("utf-8").strip():
        kind, _, rest = line.partition(" ")
        parts = _KEY.split(rest)
        keys = dict(zip(parts[1::2], (value.strip() for value in parts[2::2]), strict=True))
        if kind not in _NODES or "name" not in keys:
            raise cursor.fault("damaged network: not a node", found=repr(line[:80]))
        nodes[keys["name"]] = Node(kind, keys)
    return nodes


def _read_components(cursor: Cursor) -> dict[str, Component]:
    if cursor.token() != "<NumComponents>":
        raise cursor.fault("damaged network: no <NumComponents>")
    components = {}
    unknown = []
    for _ in range(integer(cursor.value())):
        if cursor.token() != "<ComponentName>":
            raise cursor.fault("damaged network: no <ComponentName>")
        name, opening = cursor.token(), cursor.token()
        if not re.fullmatch(r"<\w+>", opening):
            raise cursor.fault(f"damaged network: component {name} has no type", found=repr(opening[:40]))
        if opening[1:-1] in _FIELDS:
            components[name] = _read_component(cursor, name, opening[1:-1])
        else:
            unknown.append(f"{name} ({opening[1:-1]})")
            cursor.until(f"</{opening[1:]}".encode())
            cursor.until(b" ")
    if unknown:
        listed = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise ModelFileError("not a supported network", where=cursor.path, expected=SUPPORTED, found=listed)
    return components


def _read_component(cursor: Cursor, name: str, kind: str) -> Component:
    fields = _FIELDS[kind]
    values = {field: value for (owner, field), value in _DEFAULTS.items() if owner == kind}
    while (token := cursor.token()) != f"</{kind}>":
        field = token.strip("<>")
        found = []
        while not cursor.at_token():
            found.append(cursor.value())
        if field in fields:
            if len(found) != 1:
                raise cursor.fault(f"damaged component {name}: {len(found)} values of {token}")
            values[field] = _typed(cursor, found[0], fields[field], f"{name}'s {token}")
    missing = [field for field in fields if field not in values]
    if missing:
        raise cursor.fault(f"damaged component {name}: no <{missing[0]}>")
    return Component(kind, values)


def _typed(cursor: Cursor, value: object, kind: str, name: str) -> np.ndarray | int | float:
    if kind in ("integer", "real"):
        return integer(value) if kind == "integer" else real(value)
    dimensions = 2 if kind == "matrix" else 1
    if not isinstance(value, np.ndarray) or value.ndim != dimensions:
        raise cursor.fault(f"damaged component: {name} is no {kind}")
    check_finite(value, name, cursor.path)
    return value
