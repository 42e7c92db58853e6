"""Recording rules and alerts for Prometheus, written in Python and generated as YAML."""
