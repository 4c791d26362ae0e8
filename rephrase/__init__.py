"""Documents to rephrased documents, and the language-model generators behind that."""
