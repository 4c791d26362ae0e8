"""Spark: starting its JVM, opening a session, and running tasks and SQL on it."""
