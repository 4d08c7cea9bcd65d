"""Grafana dashboards as code: `make dashboards` writes infra/grafana/dashboards out of this package. No service imports it."""
