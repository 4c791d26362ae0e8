"""The style `structure`: a document's mind map, and each piece of the document after it (arXiv 2407.16724)."""
