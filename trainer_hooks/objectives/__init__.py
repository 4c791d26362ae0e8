"""What a run minimises: the next token, or that and the predictions of teachers."""
