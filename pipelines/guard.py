"""Says what submitted code reached for: an audit hook of Python, which works on every system and names the rule.

Code in C passes it by, and is held by the kernel where the sandbox can (pipelines/sandbox.py).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MARK, BREACH = "@guard", 113  # what a breach says last, and its exit code
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn")
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")


def guard(writable: Sequence[Path], secret: Sequence[Path], *, processes: bool = False) -> None:
    """From here on, reaching out of the `writable` folders or into the `secret` ones ends this process.

    It ends at once, so that what reached out can neither hide that nor talk over it. `processes`: whether others may
    be started.
    """
    own, hidden = ([Path(os.path.realpath(path)) for path in paths] for paths in (writable, secret))
    told = os.dup(2)

    def place(path: Any) -> Path | None:
        return None if isinstance(path, int) or path is None else Path(os.path.realpath(os.fsdecode(path)))

    def hook(event: str, arguments: tuple) -> None:
        rule: str = ""
        what: Any = arguments[:1]
        if event == "open":
            path, flags = place(arguments[0]), arguments[2] or 0
            if path is None or path == Path("/dev/null"):
                return
            if any(path.is_relative_to(folder) for folder in hidden):
                rule, what = "exam", path
            elif flags & WRITING and not any(path.is_relative_to(folder) for folder in own):
                rule, what = "writes", path
        elif event in CHANGES:
            for path in filter(None, map(place, arguments[:2])):  # from where to where, where it has both
                if not any(path.is_relative_to(folder) for folder in own):
                    rule, what = "writes", path
        elif event in NETWORK:
            rule, what = "network", arguments[-1]
        elif event in PROCESSES and not processes:
            rule = "processes"
        if rule:
            try:
                os.write(told, f"\n{MARK} {json.dumps([rule, str(what)[:200]])}\n".encode())
            finally:
                os._exit(BREACH)

    sys.addaudithook(hook)


def breaches(output: str) -> Iterator[tuple[str, str]]:
    """(rule, what) of each breach that an output tells; what only looks like one is skipped."""
    for line in output.splitlines():
        if line.startswith(f"{MARK} "):
            try:
                rule, what = json.loads(line.removeprefix(MARK))
            except (ValueError, TypeError, RecursionError):
                continue
            if rule in ("exam", "writes", "network", "processes"):
                yield rule, str(what)
