"""The top floor: runtimes, stages, recipes, reports and the command line."""
