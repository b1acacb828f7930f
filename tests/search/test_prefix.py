# SPDX-License-Identifier: Apache-2.0
"""Running a model from its k-th layer on gives what running all of it gives, without running what is before."""

import pytest
import torch

from kaldi_mpq.lm.batches import PADDING
from kaldi_mpq.search.prefix import Recorder


def outputs(model, recording):
    """Return what the whole model says of a recorded batch now."""
    with torch.no_grad():
        hidden, _ = model(recording.batch.inputs, recording.state)
    return hidden[recording.batch.targets != PADDING]


@pytest.mark.parametrize("context", ["utterance", "conversation"])
def test_a_changed_layer_needs_only_what_comes_after_it(kind, context, make_model, make_batches):
    """For every matrix: change it, run from its layer on: the outputs are those of the whole changed model."""
    if kind.startswith("transformer") and context == "conversation":
        pytest.skip("a transformer carries no state")
    model = make_model(kind)
    recorder = Recorder(model)
    recordings = recorder.record(make_batches(model, context))
    assert len(recordings) > 1
    for name, parameter in model.named_parameters():
        if parameter.dim() != 2:
            continue
        before = parameter.detach().clone()
        parameter.data.mul_(1.5)
        first = recorder.first_changed([name])
        for recording in recordings:
            assert torch.allclose(recorder.hidden(recording, first), outputs(model, recording), atol=1e-6)
        parameter.data.copy_(before)


def test_layers_before_the_changed_one_are_not_run(make_model, make_batches):
    """From the second layer on, the first is never called; for the output matrix, none is."""
    model = make_model("lstm-untied")
    recorder = Recorder(model)
    (recording, *_) = recorder.record(make_batches(model))
    called = []
    for number, layer in enumerate(model.layers):
        layer.register_forward_hook(lambda *_, number=number: called.append(number))
    recorder.hidden(recording, recorder.first_changed(["layers.1.ih"]))
    assert called == [1]
    recorder.hidden(recording, recorder.first_changed(["output.weight"]))
    assert called == [1]
    recorder.hidden(recording, recorder.first_changed(["layers.1.hh", "embedding.weight"]))
    assert called == [1, 0, 1]
