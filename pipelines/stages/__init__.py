"""Curation stages: pure functions over Arrow record batches, and the work a task does around them."""
