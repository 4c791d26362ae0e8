"""What a document is: schemas, shards, artifacts, fingerprints, configuration and errors. Imports nothing of ours."""
