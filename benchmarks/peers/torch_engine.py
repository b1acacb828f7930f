# SPDX-License-Identifier: Apache-2.0
"""torch in float32 and with dynamic int8 weights (`quantize_dynamic`): products, nn.LSTM over padded batches.

Not here: our own models that happen to be torch's (`own`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from peers.batches import fastest, read_lists
from peers.products import codes_of, rows_of, scale_of
from peers.protocol import Job, Prepared

__all__ = ["KINDS"]


def product(job: Job) -> Prepared:
    """A product; ``way``: ``fp32`` or ``int8``."""
    torch.set_num_threads(job["threads"])
    linear = nn.Linear(job["columns"], job["words"], bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(codes_of(job))).mul_(scale_of(job))
    layer, x = _in_way(nn.Sequential(linear), job["way"]), torch.from_numpy(rows_of(job))

    @torch.inference_mode()
    def run() -> np.ndarray:
        return layer(x).numpy()

    return Prepared(run, {"torch": torch.__version__})


def nbest(job: Job) -> Prepared:
    """N-best lists under an LSTM, normalised by the log-sum-exp of all logits."""
    torch.set_num_threads(job["threads"])
    with np.load(job["weights"]) as stored:
        weights = {name: torch.from_numpy(stored[name]) for name in stored.files}
    lstm = _in_way(_lstm(weights, job["layers"]), job["way"])
    words = weights.get("output.weight", weights["embedding.weight"])
    output = nn.Linear(*reversed(words.shape))
    with torch.no_grad():
        output.weight.copy_(words)
        output.bias.copy_(weights["output.bias"])
    output = _in_way(nn.Sequential(output), job["way"])
    embedding = weights["embedding.weight"]

    @torch.inference_mode()
    def hidden_of(inputs: np.ndarray) -> np.ndarray:
        return lstm(nn.functional.embedding(torch.from_numpy(inputs), embedding))[0].flatten(0, 1).numpy()

    @torch.inference_mode()
    def logps_of(vectors: np.ndarray, targets: np.ndarray) -> np.ndarray:
        logits = output(torch.from_numpy(vectors))
        asked = logits.gather(1, torch.from_numpy(targets)[:, None])[:, 0]
        return (asked - logits.logsumexp(dim=1)).numpy()

    lists = read_lists(job["lists"])
    run, sizes = fastest(lists, hidden_of, logps_of)
    return Prepared(run, {"torch": torch.__version__, "evaluations": lists.evaluations, **sizes})


def _lstm(weights: Mapping[str, torch.Tensor], layers: int) -> nn.LSTM:
    cells, inputs = weights["layers.0.hh"].shape[1], weights["layers.0.ih"].shape[1]
    lstm = nn.LSTM(inputs, cells, layers)
    with torch.no_grad():
        for k in range(layers):
            getattr(lstm, f"weight_ih_l{k}").copy_(weights[f"layers.{k}.ih"])
            getattr(lstm, f"weight_hh_l{k}").copy_(weights[f"layers.{k}.hh"])
            getattr(lstm, f"bias_ih_l{k}").copy_(weights[f"layers.{k}.bias"])
            getattr(lstm, f"bias_hh_l{k}").zero_()
    return lstm.eval()


def _in_way(module: nn.Module, way: str) -> nn.Module:
    if way == "fp32":
        return module.eval()
    holder = nn.ModuleDict({"inner": module})  # quantize_dynamic replaces what is inside of what it is given
    return torch.ao.quantization.quantize_dynamic(holder, {nn.Linear, nn.LSTM}, dtype=torch.qint8)["inner"]


KINDS: Mapping[str, Callable[[Job], Prepared]] = {"product": product, "nbest lstm": nbest}
