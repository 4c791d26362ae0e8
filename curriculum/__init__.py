"""Scores to an order: the Order artifact and the policies that make one."""
