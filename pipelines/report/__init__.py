"""The report of a workspace: one self-contained page, a module a section."""
