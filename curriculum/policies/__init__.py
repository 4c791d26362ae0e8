"""Order policies: each says how a set of visits is arranged, and never adds, drops or changes one."""
