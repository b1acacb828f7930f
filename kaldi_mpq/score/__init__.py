# SPDX-License-Identifier: Apache-2.0
"""Word error rates of decode directories, their significance, and the table of results. Needs neither torch nor k2."""
