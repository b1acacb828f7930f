# SPDX-License-Identifier: Apache-2.0
"""Fitted models to files as small as their bit widths say, and back. Not here: how weights get onto their grids."""
