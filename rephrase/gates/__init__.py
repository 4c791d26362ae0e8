"""The gates that an output passes before it becomes a document: what each measures, and in which order."""
