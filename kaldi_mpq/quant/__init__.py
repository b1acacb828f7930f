# SPDX-License-Identifier: Apache-2.0
"""Low-bit values: grids, scales, fake quantization. Not here: language models, training, files of packed bits."""
