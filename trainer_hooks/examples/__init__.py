"""Whole scripts to copy: a plan in a loop of your own, in Hugging Face Trainer, in Lightning."""
