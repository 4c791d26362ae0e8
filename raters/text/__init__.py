"""Compiled text kernels over Arrow's UTF-8 buffers: words, n-grams, tokens, MinHash, each made once per document."""
