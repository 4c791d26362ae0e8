"""What can be done at fixed points of every training step: stateful, in a given order, and checkpointed."""
