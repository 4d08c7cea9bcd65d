"""Runs code that a model wrote, in a child with limits.

The child is a bare interpreter in an empty folder: no environment, no site packages, limits on processor time, memory, file
size, open files and processes, and killed with its group at the deadline. Where the system lets us, it gets user and network
namespaces of its own (no network at all); where not, its ``socket`` module is taken away, which stops honest code only. It is
no wall against an attacker: do not evaluate prompts of strangers outside a container.
"""

from __future__ import annotations

import ctypes
import os
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import partial

SECONDS = 5
MEMORY_BYTES = 512 * 1024 * 1024
FILE_BYTES = 1024 * 1024
OPEN_FILES = 32
PROCESSES = 64
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PREFACE = "import sys\nsys.modules.update(dict.fromkeys(('socket', '_socket', 'ctypes', '_ctypes', 'subprocess')))\n"


def passes(code: str, test: str) -> bool:
    """Whether ``code`` followed by ``test`` runs to its end."""
    if "\0" in code:
        return False
    done = secrets.token_hex(16)  # unknown to the code, so that it cannot claim to have passed
    program = f"{_PREFACE}{code}\n{test}\nprint({done!r})\n"
    with tempfile.TemporaryDirectory(prefix="sluice-task-") as folder, tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", program],
            cwd=folder,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=partial(_limits, ctypes.CDLL(None)),  # loaded here: a fork of threads must not load libraries
        )
        try:
            status = child.wait(SECONDS)
        except subprocess.TimeoutExpired:
            status = -1
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        output.seek(0)
        return status == 0 and output.read(FILE_BYTES).decode(errors="replace").rstrip().endswith(done)


def _limits(library: ctypes.CDLL) -> None:
    """In the child, before it becomes the interpreter."""
    with suppress(AttributeError):  # not on every system
        library.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    for what, most in (
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, PROCESSES),
    ):
        with suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))
