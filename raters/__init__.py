"""Documents to scores: signals computed by compiled kernels, classifiers, and the composite that weighs them."""
