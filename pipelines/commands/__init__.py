"""What the command line does, one command a module; `pipelines/cli.py` only declares them."""
