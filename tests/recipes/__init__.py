# SPDX-License-Identifier: Apache-2.0
"""Tests of local/ and recipes/."""
