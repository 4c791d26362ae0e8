"""Evaluations beside the held-out loss: questions scored by likelihood, comparisons, forgetting, moved weights."""
