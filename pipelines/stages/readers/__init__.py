"""Readers: raw inputs in, pages out, in batches bounded by bytes; whatever cannot be read is counted and named."""
