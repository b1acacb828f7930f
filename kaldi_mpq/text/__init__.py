# SPDX-License-Identifier: Apache-2.0
"""Kaldi ``text`` and ``words.txt`` to language-model data. Not here: models."""
