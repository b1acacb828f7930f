# SPDX-License-Identifier: Apache-2.0
"""Methods times budgets times fits times seeds as resumable jobs, and the table. Not here: the verbs that they run."""
