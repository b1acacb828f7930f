# SPDX-License-Identifier: Apache-2.0
"""Kaldi RNNLM directories in (`importer`) and out (`exporter`). Not here: pytorchnn's model.pt (`lm.pytorchnn`)."""
