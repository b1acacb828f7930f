# SPDX-License-Identifier: Apache-2.0
"""Engines that are measured beside each other, one process each: ours, torch, ONNX Runtime, CTranslate2."""
