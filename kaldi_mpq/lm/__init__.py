# SPDX-License-Identifier: Apache-2.0
"""Word language models in floating point: models, training, perplexity. Not here: quantization and lattices."""
