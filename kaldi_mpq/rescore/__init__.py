# SPDX-License-Identifier: Apache-2.0
"""Kaldi decode directories rescored with a language model. Not here: training, packing and WER."""
