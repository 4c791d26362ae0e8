"""An order written in the file formats of other trainers: the same tokens in the same sequence, one module a format."""
