# SPDX-License-Identifier: Apache-2.0
"""From a trained model to weights on their grids: rounding, straight-through training, ADMM. Not here: bit widths."""
