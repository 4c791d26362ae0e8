"""Experiments: studies as files, their arms trained side by side, and what the differences are worth."""
