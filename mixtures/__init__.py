"""Sources to a mixture: exact token shares, visits and caps, as a list of document visits."""
