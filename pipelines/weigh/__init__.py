"""Learning the weights of scores: a pool of rated documents, proxies trained on subsets of it, and what they teach."""
