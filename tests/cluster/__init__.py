"""Real clusters for tests: Apache Kafka on this machine (``kafka.ApacheKafka``), or the one behind ``KAFKA_BOOTSTRAP``."""
