"""An order and a plan to a model: plan, averaging, loader and the bundled trainer."""
