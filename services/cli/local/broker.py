"""The embedded Kafka broker: `python -m services.cli.local.broker --address-file FILE`.

librdkafka carries a broker that speaks the Kafka protocol on loopback; a producer with ``test.mock.num.brokers`` starts it.
Ordinary Kafka clients use it, so the services run the same code as against Apache Kafka. Limits (docs/embedded.md): loopback
only, 4 partitions a topic, 5 MB or 100,000 messages a partition, no TLS, SASL or CreateTopics, gone with its process.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

# Clients that publish before any consumer came would otherwise see an unknown topic for one metadata round.
METADATA_SECONDS = 10.0


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m services.cli.local.broker", description="Embedded Kafka broker on loopback"
    )
    parser.add_argument("--address-file", type=Path, required=True, help="receives host:port once the broker listens")
    parser.add_argument("--topic", action="append", default=[], help="topic made at the start (4 partitions); repeatable")
    parser.add_argument(
        "--rtt-ms", type=int, default=0, help="delay of every reply in milliseconds, to play a slow link (0: none)"
    )
    return parser.parse_args(arguments)


def serve(address_file: Path, topics: list[str], rtt_ms: int, stop: threading.Event) -> int:
    """Listens until ``stop``; writes ``host:port`` to ``address_file`` when clients may connect. Returns the exit status."""
    try:
        from confluent_kafka import KafkaException, Producer
    except ImportError:
        sys.stderr.write("the embedded broker needs confluent-kafka: pip install 'sluice[local]', or use --kafka HOST:PORT\n")
        return 2
    # librdkafka demands a bootstrap address although the broker inside it replaces it. Its log lines would go to standard
    # error in a format of their own.
    producer = Producer(
        {"bootstrap.servers": "embedded", "test.mock.num.brokers": 1, "test.mock.broker.rtt": rtt_ms, "log_level": 3},
        logger=logging.getLogger("librdkafka"),
    )
    try:
        metadata = producer.list_topics(timeout=METADATA_SECONDS)
        for topic in topics:
            producer.list_topics(topic, timeout=METADATA_SECONDS)
    except KafkaException as error:
        sys.stderr.write(f"the embedded broker did not start: {error}\n")
        return 2
    broker = next(iter(metadata.brokers.values()))
    # Renamed into place: a reader never sees half an address.
    partial = address_file.with_suffix(".partial")
    partial.write_text(f"{broker.host}:{broker.port}\n")
    partial.rename(address_file)
    stop.wait()
    return 0


def main(arguments: list[str] | None = None) -> int:
    options = _arguments(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return serve(options.address_file, options.topic, options.rtt_ms, stop)


if __name__ == "__main__":
    sys.exit(main())
