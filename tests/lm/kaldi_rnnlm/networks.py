# SPDX-License-Identifier: Apache-2.0
"""Small random nnet3 networks in text form, and what they compute, by loops over the paper's equations."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

WORDS = ("<eps>", *(f"w{i}" for i in range(1, 9)), "<unk>", "#0", "<s>", "</s>", "<brk>")
UNK, BOS, EOS = 9, 11, 12


def text_of(array: np.ndarray) -> str:
    """Return a vector or matrix in Kaldi's text form."""
    rows = [" ".join(f"{value:.9g}" for value in row) for row in np.atleast_2d(array)]
    return f" [ {rows[0]} ]\n" if array.ndim == 1 else " [\n  " + "\n  ".join(rows) + " ]\n"


def component(name: str, kind: str, fields: str) -> str:
    """Return a component."""
    return f"<ComponentName> {name} <{kind}> {fields}</{kind}> \n"


def nonlinearity(name: str, kind: str, dim: int) -> str:
    """Return a SigmoidComponent or TanhComponent that has seen no data."""
    counts = "<Count> 0 <OderivRms>  [ ]\n<OderivCount> 0 <NumDimsSelfRepaired> 0 <NumDimsProcessed> 0 "
    return component(name, kind, f"<Dim> {dim} <ValueAvg>  [ ]\n<DerivAvg>  [ ]\n{counts}")


def truncation(name: str, dim: int, scale: float = 1.0) -> str:
    """Return a BackpropTruncationComponent."""
    limits = "<ClippingThreshold> 30 <ZeroingThreshold> 15 <ZeroingInterval> 20 <RecurrenceInterval> 1 "
    counts = "<NumElementsClipped> 0 <NumElementsZeroed> 0 <NumElementsProcessed> 0 <NumZeroingBoundaries> 0 "
    return component(name, "BackpropTruncationComponent", f"<Dim> {dim} <Scale> {scale} {limits}{counts}")


@dataclass
class Toy:
    """A network that grows layer by layer.

    Args:
      dim: E, of the embeddings.
      decay: scale of what recurs; 1 but for decay-time.
    """

    dim: int = 5
    seed: int = 0
    decay: float = 1.0
    nodes: list[str] = field(default_factory=list)
    components: list[str] = field(default_factory=list)
    steps: list = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.embedding = self.matrix(len(WORDS), self.dim)
        self.nodes.append(f"input-node name=input dim={self.dim}")
        self.top, self.width = "input", self.dim

    def matrix(self, *shape: int) -> np.ndarray:
        """Return random weights."""
        return (0.5 * self.random.standard_normal(shape)).astype(np.float32)

    def affine(self, name: str, out: int, kind: str = "AffineComponent", factor: float = 1.0) -> Toy:
        """Add an affine (LinearComponent: linear) layer of the values below times a factor."""
        weight, bias = self.matrix(out, self.width), self.matrix(out)
        if kind == "LinearComponent":
            bias[:] = 0
            rest = "<UseNaturalGradient> T <RankInOut> 2 1 <Alpha> 4 <NumSamplesHistory> 2000 <UpdatePeriod> 4 "
            fields = f"<LearningRate> 0.001 <Params> {text_of(weight)}{rest}"
        else:
            fields = f"<LearningRate> 0.001 <LinearParams> {text_of(weight)}<BiasParams> {text_of(bias)}"
        self.components.append(component(name, kind, fields))
        source = self.top if factor == 1.0 else f"Scale({factor}, {self.top})"
        self.nodes.append(f"component-node name={name} component={name} input={source}")
        self.steps.append(lambda x: [weight @ (factor * v) + bias for v in x])
        self.top, self.width = name, out
        return self

    def fast(self, name: str, cells: int, delay: int = -1) -> Toy:
        """Add a fast-lstm-layer."""
        weight, bias, peephole = self._cell_weights(cells)
        rest = (
            f"<ValueAvg> {text_of(np.zeros((5, cells)))}<DerivAvg> {text_of(np.zeros((5, cells)))}"
            "<SelfRepairConfig>  [ 0.05 0.05 0.2 0.05 0.2 1e-05 1e-05 1e-05 1e-05 1e-05 ]\n"
            "<SelfRepairProb>  [ 0 0 0 0 0 ]\n<Count> 0 "
        )
        affine = f"<LearningRate> 0.001 <LinearParams> {text_of(weight)}<BiasParams> {text_of(bias)}"
        self.components += [
            component(f"{name}.W_all", "AffineComponent", affine),
            component(
                f"{name}.lstm_nonlin",
                "LstmNonlinearityComponent",
                f"<LearningRate> 0.001 <Params> {text_of(peephole)}{rest}",
            ),
            truncation(f"{name}.cm_trunc", 2 * cells, self.decay),
        ]
        before = f"IfDefined(Offset({name}.{{}}, {delay}))"
        self.nodes += [
            f"component-node name={name}.W_all component={name}.W_all "
            f"input=Append({self.top}, {before.format('m_trunc')})",
            f"component-node name={name}.lstm_nonlin component={name}.lstm_nonlin "
            f"input=Append({name}.W_all, {before.format('c_trunc')})",
            f"dim-range-node name={name}.m input-node={name}.lstm_nonlin dim-offset={cells} dim={cells}",
            f"component-node name={name}.cm_trunc component={name}.cm_trunc input={name}.lstm_nonlin",
            f"dim-range-node name={name}.c_trunc input-node={name}.cm_trunc dim-offset=0 dim={cells}",
            f"dim-range-node name={name}.m_trunc input-node={name}.cm_trunc dim-offset={cells} dim={cells}",
        ]
        self.steps.append(lambda x: run_lstm(x, weight, bias, peephole))
        self.top, self.width = f"{name}.m", cells
        return self

    def slow(self, name: str, cells: int) -> Toy:
        """Add an lstm-layer."""
        weight, bias, peephole = self._cell_weights(cells)
        read = f"Append({self.top}, IfDefined(Offset({name}.r_t, -1)))"
        state = f"IfDefined(Offset({name}.c_t, -1))"
        for k, (gate, kind) in enumerate((("i", "Sigmoid"), ("f", "Sigmoid"), ("g", "Tanh"), ("o", "Sigmoid"))):
            rows = slice(k * cells, (k + 1) * cells)
            affine = f"<LinearParams> {text_of(weight[rows])}<BiasParams> {text_of(bias[rows])}"
            inner = f"{name}.{gate}1_t"
            self.components.append(component(f"{name}.W_{gate}", "AffineComponent", f"<LearningRate> 0.001 {affine}"))
            self.nodes.append(f"component-node name={inner} component={name}.W_{gate} input={read}")
            if gate != "g":
                scales = f"<LearningRate> 0.001 <Params> {text_of(peephole['ifo'.index(gate)])}"
                source = f"{name}.c_t" if gate == "o" else state
                self.components.append(component(f"{name}.w_{gate}", "PerElementScaleComponent", scales))
                self.nodes.append(f"component-node name={name}.{gate}2_t component={name}.w_{gate} input={source}")
                inner = f"Sum({inner}, {name}.{gate}2_t)"
            self.components.append(nonlinearity(f"{name}.{gate}", f"{kind}Component", cells))
            self.nodes.append(f"component-node name={name}.{gate}_t component={name}.{gate} input={inner}")
        self.components.append(nonlinearity(f"{name}.h", "TanhComponent", cells))
        self.nodes.append(f"component-node name={name}.h_t component={name}.h input={name}.c_t")
        factors = {"c1": f"{name}.f_t, {state}", "c2": f"{name}.i_t, {name}.g_t", "m": f"{name}.o_t, {name}.h_t"}
        for product, pair in factors.items():
            dims = f"<InputDim> {2 * cells} <OutputDim> {cells} "
            self.components.append(component(f"{name}.{product}", "ElementwiseProductComponent", dims))
            self.nodes.append(f"component-node name={name}.{product}_t component={name}.{product} input=Append({pair})")
        self.components += [truncation(f"{name}.c", cells, self.decay), truncation(f"{name}.r", cells, self.decay)]
        self.nodes.append(f"component-node name={name}.c_t component={name}.c input=Sum({name}.c1_t, {name}.c2_t)")
        self.nodes.append(f"component-node name={name}.r_t component={name}.r input={name}.m_t")
        self.steps.append(lambda x: run_lstm(x, weight, bias, peephole))
        self.top, self.width = f"{name}.m_t", cells
        return self

    def raw(self) -> str:
        """Return the network in text form."""
        nodes = "\n".join([*self.nodes, f"output-node name=output input={self.top} objective=linear"])
        return f"<Nnet3> \n{nodes}\n\n<NumComponents> {len(self.components)} \n{''.join(self.components)}</Nnet3> "

    def write(self, directory: Path) -> Path:
        """Write an RNNLM directory with this network in text form."""
        (directory / "config").mkdir(parents=True)
        (directory / "final.raw").write_text(self.raw())
        (directory / "word_embedding.final.mat").write_text(text_of(self.embedding))
        (directory / "config" / "words.txt").write_text("".join(f"{word} {i}\n" for i, word in enumerate(WORDS)))
        (directory / "config" / "oov.txt").write_text("<unk>\n")
        options = f"--bos-symbol={BOS} --eos-symbol={EOS} --brk-symbol={len(WORDS) - 1} \n"
        (directory / "special_symbol_opts.txt").write_text(options)
        return directory

    def logits(self, words: list[int]) -> np.ndarray:
        """Return the (T, V) logits after each of T words, ``<brk>`` included."""
        values = [self.embedding[word].astype(np.float64) for word in words]
        for step in self.steps:
            values = step(values)
        return np.stack(values) @ self.embedding.T

    def _cell_weights(self, cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.matrix(4 * cells, self.width + cells), self.matrix(4 * cells), 2 * self.matrix(3, cells)


def run_lstm(x: list[np.ndarray], weight: np.ndarray, bias: np.ndarray, peephole: np.ndarray) -> list[np.ndarray]:
    """Return the outputs of an LSTM with peepholes; gates in the order input, forget, cell, output."""
    cells = len(bias) // 4
    m, c, outputs = np.zeros(cells), np.zeros(cells), []
    for below in x:
        i, f, g, o = np.split(weight @ np.concatenate([below, m]) + bias, 4)
        i, f = (1 / (1 + np.exp(-(gate + p * c))) for gate, p in zip((i, f), peephole, strict=False))
        c = f * c + i * np.tanh(g)
        m = np.tanh(c) / (1 + np.exp(-(o + peephole[2] * c)))
        outputs.append(m)
    return outputs


TOYS = {
    "fast": lambda: Toy().fast("lstm1", 6).fast("lstm2", 6).affine("output.affine", 5),
    "slow": lambda: Toy(seed=1).slow("lstm1", 6).slow("lstm2", 6).affine("output.affine", 5),
    "no affine": lambda: Toy(seed=2, dim=4).fast("lstm1", 4),
    "mixed": lambda: (
        Toy(seed=3)
        .affine("in", 7)
        .affine("in2", 3, "LinearComponent")
        .slow("lstm1", 4)
        .affine("between", 6, factor=0.5)
        .fast("lstm2", 4)
        .affine("out", 3, "LinearComponent")
        .affine("output.affine", 5)
    ),
}
