"""`make test-cluster`: the chart and the images on a real Kubernetes, with a real Kafka, Valkey, KEDA and Prometheus operator.

Run by hand. What it needs of the machine is in docs/deploy-kubernetes.md; `python -m tests.kubernetes --help` has the options.
"""
