"""What the results of a study say: differences with their intervals, curves, forgetting, costs. Nothing is trained."""
