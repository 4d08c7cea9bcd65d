"""Apache Kafka's jar files, fetched once by Maven into the user's cache."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

KAFKA_VERSION = "4.1.1"
LOG4J_VERSION = "2.24.3"
FETCH_SECONDS = 600
OLDEST_JAVA = 17
_DEPENDENCIES = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.apache.kafka", "kafka-tools", KAFKA_VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
    ("org.apache.logging.log4j", "log4j-core", LOG4J_VERSION),
)


class Unavailable(Exception):
    """Apache Kafka cannot be had here; ``str`` is the reason."""


def kafka_jars() -> Path:
    """The folder of the jar files. Raises ``Unavailable`` without Java, or where Maven cannot fetch them."""
    _require_java()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sluice"
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / f"kafka-{KAFKA_VERSION}"
    with (cache / f"kafka-{KAFKA_VERSION}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs fetch once
        if not (folder / ".complete").exists():
            _fetch(folder)
    return folder


def _require_java() -> None:
    if shutil.which("java") is None:
        raise Unavailable(f"no `java` on the path (Apache Kafka 4 needs {OLDEST_JAVA} or newer); KAFKA_BOOTSTRAP is not set")
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    if found is None or int(found[1]) < OLDEST_JAVA:
        first = said.partition("\n")[0]
        raise Unavailable(f"Apache Kafka 4 needs Java {OLDEST_JAVA} or newer, here is {first}; KAFKA_BOOTSTRAP is not set")


def _fetch(folder: Path) -> None:
    if shutil.which("mvn") is None:
        raise Unavailable(f"no `mvn` on the path to fetch Apache Kafka into {folder}, and KAFKA_BOOTSTRAP is not set")
    folder.mkdir(exist_ok=True)
    project = folder / "pom.xml"
    project.write_text(_project())
    command = ["mvn", "-q", "-B", "-f", str(project), "dependency:copy-dependencies", "-DincludeScope=runtime"]
    try:
        done = subprocess.run(
            [*command, f"-DoutputDirectory={folder}"], capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"Maven did not fetch Apache Kafka within {FETCH_SECONDS} s") from error
    if done.returncode != 0:
        said = next((line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line), "no reason given")
        raise Unavailable(f"Maven could not fetch Apache Kafka: {said[:300]}")
    (folder / ".complete").touch()


def _project() -> str:
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
        for group, name, version in _DEPENDENCIES
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>sluice</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>"
        f"<dependencies>{dependencies}</dependencies></project>\n"
    )
