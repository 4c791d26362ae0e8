"""Optimizers the trainer offers, each a torch.optim.Optimizer whose whole state is tensors and plain numbers."""
