# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime, as fast as it is known to go: int8 LSTM and products, 2/4/8-bit products with 8-bit activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime

from peers.batches import fastest, read_lists
from peers.onnx_graphs import dynamic_product, hidden_graph, low_bit_product, output_graph
from peers.products import codes_of, rows_of, scale_of
from peers.protocol import Job, Prepared

__all__ = ["KINDS"]

BLOCK = 128  # a scale for so many columns: as fast as larger ones, a quarter faster than 32


def product(job: Job) -> Prepared:
    """A product; ``way``: ``nbits`` (MatMulNBits, ``tables`` or not) or ``dynamic`` (DynamicQuantizeMatMul)."""
    codes, scale, x = codes_of(job), scale_of(job), rows_of(job)
    if job["way"] == "nbits":
        model = low_bit_product(codes, scale, job["width"], BLOCK)
    else:
        model = dynamic_product(codes * np.float32(scale))
    session = _session(model, job, tables=job.get("tables", False))
    return Prepared(lambda: session.run(None, {"x": x})[0], {"onnxruntime": onnxruntime.__version__})


def nbest(job: Job) -> Prepared:
    """N-best lists under an LSTM; ``normalize`` False: logits only."""
    with np.load(job["weights"]) as stored:
        weights = dict(stored)
    hidden = _session(hidden_graph(weights, job["layers"]), job)
    output = _session(output_graph(weights, job["normalize"]), job)

    def hidden_of(words: np.ndarray) -> np.ndarray:
        return hidden.run(None, {"words": words})[0]

    def logps_of(vectors: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return output.run(None, {"hidden": vectors, "targets": targets[:, None]})[0][:, 0]

    lists = read_lists(job["lists"])
    run, sizes = fastest(lists, hidden_of, logps_of)
    return Prepared(run, {"onnxruntime": onnxruntime.__version__, "evaluations": lists.evaluations, **sizes})


def _session(model: bytes, job: Job, tables: bool = False) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    options.inter_op_num_threads = 1
    if tables:
        options.add_session_config_entry("mlas.use_lut_gemm", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


KINDS: Mapping[str, Callable[[Job], Prepared]] = {"product": product, "nbest lstm": nbest}
