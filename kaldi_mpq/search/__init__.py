# SPDX-License-Identifier: Apache-2.0
"""Bit widths for the parts of a float model, under a size in bytes. Not here: training at these widths (`fit`)."""
