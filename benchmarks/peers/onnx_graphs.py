# SPDX-License-Identifier: Apache-2.0
"""ONNX graphs of what ONNX Runtime is measured on: low-bit products, an int8 LSTM, an output layer.

Weights of 8 bits have a scale a row and 7 of the 8 bits: without VNNI ONNX Runtime's products of bytes saturate with
all 8. Weights of our 2-bit grid are represented exactly. Not here: running them (`onnx_runtime`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["dynamic_product", "hidden_graph", "low_bit_product", "output_graph"]

INT8_LIMIT = 64
Weights = Mapping[str, np.ndarray]
_TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}


def model_bytes(
    nodes: Sequence[onnx.NodeProto], inputs: Mapping[str, type], output: str, tensors: Mapping[str, np.ndarray]
) -> bytes:
    """Return a model; inputs have a name and a type, shapes are free."""
    arguments = [helper.make_tensor_value_info(name, _TYPES[np.dtype(kind)], None) for name, kind in inputs.items()]
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    constants = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    graph = helper.make_graph(list(nodes), "graph", arguments, [result], constants)
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=versions, ir_version=9).SerializeToString()


def ms(kind: str, inputs: Sequence[str], output: str, **attributes: object) -> onnx.NodeProto:
    """Return a node of ONNX Runtime's own operators."""
    return helper.make_node(kind, list(inputs), [output], domain="com.microsoft", **attributes)


def quantized(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 codes and (rows,) scales of a (rows, columns) matrix."""
    scales = np.abs(matrix).max(axis=1) / INT8_LIMIT
    scales[scales == 0] = 1
    codes = np.rint(matrix / scales[:, None]).astype(np.int8)
    return codes, scales.astype(np.float32)


def low_bit_product(codes: np.ndarray, scale: float, bits: int, block: int, accuracy_level: int = 4) -> bytes:
    """Return x -> x W^T by MatMulNBits, (rows, columns) int8 codes of at most so many bits, a scale a block."""
    words, columns = codes.shape
    per_byte = 8 // bits
    unsigned = (codes.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    unsigned = unsigned.reshape(words, columns // block, -1, per_byte)
    packed = np.zeros(unsigned.shape[:-1], np.uint8)
    for i in range(per_byte):
        packed |= unsigned[..., i] << np.uint8(bits * i)
    scales = np.full((words, columns // block), scale, np.float32)
    node = ms("MatMulNBits", ["x", "w", "s"], "y", K=columns, N=words, bits=bits, block_size=block,
              accuracy_level=accuracy_level)  # fmt: skip
    return model_bytes([node], {"x": np.float32}, "y", {"w": packed, "s": scales})


def dynamic_product(matrix: np.ndarray) -> bytes:
    """Return x -> x W^T by DynamicQuantizeMatMul of a (rows, columns) float matrix."""
    node, tensors = _dynamic("x", matrix, "y", "w", bias=False)
    return model_bytes([node], {"x": np.float32}, "y", tensors)


def _dynamic(source: str, matrix: np.ndarray, to: str, name: str, bias: bool) -> tuple[onnx.NodeProto, Weights]:
    codes, scales = quantized(matrix)
    zeros = np.zeros(len(codes), np.int8)
    tensors = {name: np.ascontiguousarray(codes.T), f"{name}.scale": scales, f"{name}.zero": zeros}
    return ms("DynamicQuantizeMatMul", [source, *tensors, *(["bias"] if bias else [])], to), tensors


def hidden_graph(weights: Weights, layers: int) -> bytes:
    """Return (T, B) ``words`` -> (T * B, H) ``hidden``: embeddings, int8 LSTM layers; our gates are i, f, g, o."""
    tensors: dict[str, np.ndarray] = {"embedding": weights["embedding.weight"]}
    nodes = [helper.make_node("Gather", ["embedding", "words"], ["x0"])]
    for k in range(layers):
        parts = {name: weights[f"layers.{k}.{name}"] for name in ("ih", "hh", "bias")}
        node, more = _lstm(f"x{k}", parts, f"y{k}", f"l{k}")
        tensors |= more
        nodes += [node, helper.make_node("Squeeze", [f"y{k}", "one"], [f"x{k + 1}"])]
    tensors |= {"one": np.array([1], np.int64), "flat": np.array([-1, parts["hh"].shape[1]], np.int64)}
    nodes.append(helper.make_node("Reshape", [f"x{layers}", "flat"], ["hidden"]))
    return model_bytes(nodes, {"words": np.int64}, "hidden", tensors)


def _lstm(source: str, parts: Weights, to: str, name: str) -> tuple[onnx.NodeProto, Weights]:
    cells = parts["hh"].shape[1]
    order = np.r_[0:cells, 3 * cells : 4 * cells, cells : 2 * cells, 2 * cells : 3 * cells]  # i, o, f, c
    tensors = {}
    for letter, part in (("W", parts["ih"]), ("R", parts["hh"])):
        codes, scales = quantized(part[order])
        tensors[f"{name}.{letter}"] = np.ascontiguousarray(codes.T)[None]
        tensors[f"{name}.{letter}scale"] = scales[None]
        tensors[f"{name}.{letter}zero"] = np.zeros((1, 4 * cells), np.int8)
    tensors[f"{name}.B"] = np.r_[parts["bias"][order], np.zeros(4 * cells)].astype(np.float32)[None]
    w, ws, wz, r, rs, rz, b = tensors
    return ms("DynamicQuantizeLSTM", [source, w, r, b, "", "", "", "", ws, wz, rs, rz], to, hidden_size=cells), tensors


def output_graph(weights: Weights, normalize: bool) -> bytes:
    """Return (R, E) ``hidden``, (R, 1) ``targets`` -> (R, 1) ``logps``; or logits of just these words."""
    matrix, bias = weights.get("output.weight", weights["embedding.weight"]), weights["output.bias"]
    inputs = {"hidden": np.float32, "targets": np.int64}
    if normalize:
        product, tensors = _dynamic("hidden", matrix, "logits", "words", bias=True)
        tail = [
            helper.make_node("LogSoftmax", ["logits"], ["logp"], axis=-1),
            helper.make_node("GatherElements", ["logp", "targets"], ["logps"], axis=1),
        ]
        return model_bytes([product, *tail], inputs, "logps", {**tensors, "bias": bias})
    nodes = [
        helper.make_node("Squeeze", ["targets", "one"], ["which"]),
        helper.make_node("Gather", ["words", "which"], ["asked"]),
        helper.make_node("Mul", ["asked", "hidden"], ["products"]),
        helper.make_node("ReduceSum", ["products", "one"], ["dots"]),
        helper.make_node("Gather", ["bias", "targets"], ["biases"]),
        helper.make_node("Add", ["dots", "biases"], ["logps"]),
    ]
    return model_bytes(nodes, inputs, "logps", {"words": matrix, "bias": bias, "one": np.array([1], np.int64)})
