"""The parts of pydantic, PyYAML, xxhash and safetensors that training uses, in plain Python over numpy and torch.

A bundle trains with the very modules that train here. Those import four packages that an air-gapped machine may not
have, so the bundle brings these in their place, under their names, for its own process. Each file says what it leaves
out; what it has gives the same values and the same bytes as the package (tests compare them).
"""
