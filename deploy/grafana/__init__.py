"""Dashboards for Grafana, written in Python and generated as JSON."""
