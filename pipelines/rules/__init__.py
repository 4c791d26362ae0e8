"""Filter rule sets as data, one YAML file a set; `pipelines.filter_rules` loads them."""
