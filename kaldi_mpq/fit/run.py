# SPDX-License-Identifier: Apache-2.0
"""``mpq fit``: a float LM and a precision map in, an LM whose weights lie on their grids out.

Not here: the methods (`ste`, `admm`, rounding in `quant.quantized`), the loop (`lm.train`), packed files (`pack`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, distributed

from kaldi_mpq.artefact import read_json, require, sha256_of, stamp
from kaldi_mpq.errors import ConfigError, VocabularyError
from kaldi_mpq.fit.activations import with_activation_bits
from kaldi_mpq.fit.admm import AdmmObjective
from kaldi_mpq.fit.distill import Teacher
from kaldi_mpq.fit.extragradient import ExtraGradientObjective
from kaldi_mpq.fit.settings import FitSettings
from kaldi_mpq.fit.ste import SteObjective
from kaldi_mpq.lm.checkpoint import load_lm, load_weights
from kaldi_mpq.lm.made_with import already_done
from kaldi_mpq.lm.model import LanguageModel, build
from kaldi_mpq.lm.perplexity import perplexity
from kaldi_mpq.lm.train import Trainer, choose_device, finish, prepare_process
from kaldi_mpq.pack.prototypes import prototype_places, start_from_prototypes
from kaldi_mpq.pack.units import matching_units
from kaldi_mpq.precision import PrecisionMap, Unit
from kaldi_mpq.quant.granularity import Granularity
from kaldi_mpq.quant.quantized import Quantized, quantize_units, save_quantized, tensors_on_grid
from kaldi_mpq.settings import as_plain
from kaldi_mpq.text.corpus import Corpus

__all__ = ["fit_lm", "fit_model"]

log = logging.getLogger(__name__)


def fit_lm(settings: FitSettings) -> str:
    """Write the fitted LM's directory and return its perplexities in one line; go on from a checkpoint if there is one.

    Raises:
      MissingInputError: naming every input that is not there.
      VocabularyError: the data's words.txt is not the LM's.
      PrecisionError: the precision map does not fit the LM.
      ConfigError: OUT was made with other settings.
    """
    prepare_process(settings)
    settings = _with_learning_rate(settings)
    # A changed precision map or LM is other settings too, though under the same name.
    inputs = [settings.lm / "model.safetensors", *([settings.precision] if settings.precision else [])]
    inputs += [place / "model.safetensors" for place in prototype_places(settings.prototypes).values()]
    require([*inputs, settings.lm / "words.txt", settings.data / "words.txt", settings.data / "dev.ids"])
    made_with = {**as_plain(settings), "input_sha256": [sha256_of(path) for path in inputs]}
    done = already_done(settings.out, made_with)
    if done:
        return done
    if sha256_of(settings.lm / "words.txt") != sha256_of(settings.data / "words.txt"):
        raise VocabularyError("not the words.txt that the LM was trained with", where=settings.data / "words.txt")
    model = load_lm(settings.lm)
    if settings.activation_bits:
        model = with_activation_bits(model, settings.activation_bits, Corpus.load(settings.data / "dev.ids"))
    precision = read_precision(settings, model)
    units = matching_units(model, precision)
    tensors, quantized = fit_model(model, units, precision, settings, made_with)
    fitted = build(model.config)
    load_weights(fitted, tensors_on_grid(tensors, units, precision, quantized), where=settings.out)
    if not distributed.is_initialized() or distributed.get_rank() == 0:
        save_quantized(settings.out / "quant.safetensors", quantized)
        precision.write(settings.out / "precision.json")
    made_by = stamp("fit", made_with, [*inputs, settings.data / "words.txt"])
    return finish(fitted.to(choose_device(settings.device)).eval(), settings, settings.data, settings.out, made_by)


def read_precision(settings: FitSettings, model: LanguageModel) -> PrecisionMap:
    """Return the precision map that the settings name: a file's, or one width for every unit."""
    if settings.precision:
        return PrecisionMap.read(settings.precision)
    return PrecisionMap.uniform((unit.name for unit in model.units()), settings.bits or 0)


def fit_model(
    model: LanguageModel, units: list[Unit], precision: PrecisionMap, settings: FitSettings, made_with: dict[str, Any]
) -> tuple[Mapping[str, Tensor], dict[str, Quantized]]:
    """Return the trained float tensors (on the CPU) and every unit of 1 to 8 bits on its grid.

    Args:
      model: the float model; is not changed.
      made_with: what a checkpoint must share to be resumed.
    """
    granularity = Granularity(settings.granularity, settings.block)
    if settings.method == "round":
        start = _start(model, units, precision, granularity, settings).state_dict()
        return start, quantize_units(start, units, precision, granularity)
    objective = make_objective(model, units, precision, granularity, settings)
    if settings.schedule == "auto":
        settings = replace(settings, schedule="constant" if settings.method == "admm" else "cosine")
    if isinstance(objective, ExtraGradientObjective):
        settings = replace(settings, optimizer="sgd", momentum=0.0, learning_rate=settings.eta2, schedule="constant",
                           warmup_steps=0, clip=0.0)  # fmt: skip
    torch.manual_seed(settings.seed)
    train, dev = (Corpus.load(settings.data / f"{name}.ids") for name in ("train", "dev"))
    Trainer(objective, settings, train, dev, settings.out).run(made_with, _good_enough(model, dev, settings))
    objective.cpu()
    return objective.tensors(), objective.quantized()


def make_objective(
    model: LanguageModel, units: list[Unit], precision: PrecisionMap, granularity: Granularity, settings: FitSettings
) -> SteObjective | AdmmObjective:
    """Return what the settings' method minimises, with a copy of the model."""
    teacher = None
    if settings.distill_weight > 0:
        teacher = Teacher(_copy(model, activation_bits=0), settings.distill_weight, settings.distill_temperature)
    student = _start(model, units, precision, granularity, settings)
    options: dict[str, Any] = {
        "label_smoothing": settings.label_smoothing,
        "self_normalize": settings.self_normalize,
        "teacher": teacher,
    }
    if settings.method == "ste":
        rates = {"scale_rate": settings.scale_rate, "even_rates": settings.even_rates}
        return SteObjective(student, units, precision, granularity, **rates, **options)
    options.update(
        gamma=settings.gamma,
        growth=settings.gamma_growth,
        interval=settings.admm_interval,
        projection=settings.admm_projection,
    )
    if settings.admm_update == "optimizer":
        return AdmmObjective(student, units, precision, granularity, **options)
    if distributed.is_initialized():
        raise ConfigError("extra-gradient steps run in one process", hint="--admm-update optimizer")
    return ExtraGradientObjective(student, units, precision, granularity, eta1=settings.eta1, **options)


def _with_learning_rate(settings: FitSettings) -> FitSettings:
    """Return settings with a learning rate, the float LM's where they have none."""
    if settings.learning_rate or settings.method == "round":
        return settings
    config = settings.lm / "config.json"
    require([config])
    rate = read_json(config).get("made_by", {}).get("settings", {}).get("learning_rate", 0.0)
    if not rate:
        hint = "--learning-rate 0.001, for instance"
        raise ConfigError("the float LM does not say what learning rate it was trained with", where=config, hint=hint)
    return replace(settings, learning_rate=rate)


def _good_enough(model: LanguageModel, dev: Corpus, settings: FitSettings) -> float:
    """Return the dev perplexity at which training stops, from that of the float LM; 0 where the settings name none."""
    if not settings.enough:
        return 0.0
    float_lm = _copy(model, activation_bits=0).to(choose_device(settings.device))
    before = perplexity(float_lm, dev, context=settings.context).value
    enough = (1 + settings.enough) * before
    log.info("float dev perplexity %.2f: %.2f is good enough", before, enough)
    return enough


def _start(
    model: LanguageModel, units: list[Unit], precision: PrecisionMap, granularity: Granularity, settings: FitSettings
) -> LanguageModel:
    """Return a copy of the float model, or of what the settings' prototypes make of it."""
    student = _copy(model, **({} if settings.dropout is None else {"dropout": settings.dropout}))
    if settings.prototypes:
        start_from_prototypes(student, units, precision, granularity, settings.prototypes)
    return student


def _copy(model: LanguageModel, **changed: Any) -> LanguageModel:
    copy = build(replace(model.config, **changed))
    names = copy.state_dict().keys()
    copy.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name in names})
    return copy
