"""A Redis behind TLS with the ACL users that docs/redis.md lists, and only those."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from services.cli.local.ports import free_port
from tests.secure_redis.debian import Program

DOCS = Path(__file__).parents[2] / "docs" / "redis.md"
START_SECONDS = 30.0


@dataclass(frozen=True)
class SecureRedis:
    url: str
    ca_file: Path
    log: Path


def documented_users(group: str) -> str:
    """The ``aclfile`` of the documentation, for workers of ``group``."""
    block = re.search(r"```acl\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert block is not None, f"{DOCS} shows no users"
    return block[1].replace("shop", group)


@contextmanager
def running(program: Program, folder: Path, group: str) -> Iterator[SecureRedis]:
    """Ends the server when left."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    (folder / "users.acl").write_text(documented_users(group))
    port = free_port()
    settings = {
        "port": 0,
        "tls-port": port,
        "bind": "127.0.0.1",
        "tls-cert-file": folder / "server.pem",
        "tls-key-file": folder / "server.pem",
        "tls-ca-cert-file": folder / "ca.pem",
        "tls-auth-clients": "no",
        "aclfile": folder / "users.acl",
        "dir": folder,
        "save": '""',
        "maxmemory-policy": "noeviction",
    }
    (folder / "redis.conf").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    environment = {**os.environ, "LD_LIBRARY_PATH": program.libraries} if program.libraries else dict(os.environ)
    log = folder / "redis.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(program.path), str(folder / "redis.conf")], env=environment, stdout=stream, stderr=stream
        )
    try:
        _await(process, port, folder / "ca.pem", log)
        yield SecureRedis(f"rediss://127.0.0.1:{port}/0", folder / "ca.pem", log)
    finally:
        process.terminate()
        process.wait(10)


def _await(process: subprocess.Popen[bytes], port: int, ca_file: Path, log: Path) -> None:
    context = ssl.create_default_context(cafile=str(ca_file))
    end = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, f"no TLS on port {port}: {log.read_text()}"
        try:
            with (
                socket.create_connection(("127.0.0.1", port), timeout=1) as plain,
                context.wrap_socket(plain, server_hostname="127.0.0.1"),
            ):
                return
        except OSError:
            time.sleep(0.05)
