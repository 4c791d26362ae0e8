"""The version of gradatim, in a module that imports nothing, so that the command line can print it at once."""

VERSION = "0.1.0"
