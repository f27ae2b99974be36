"""A user's mistake ends a stage with one message and exit code 2, never with a traceback."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

from openautoglm.errors import UserError

__all__ = ["UserError", "stage"]

DISK = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),  # it is full, or broken
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST),  # not to be written to
)


def stage(main: Callable[[], None]) -> None:
    """Run a stage's main; expected failures become one line on standard error."""
    from openautoglm.artifact import ArtifactError

    try:
        main()
    except (UserError, ArtifactError) as error:
        sys.exit(_say(str(error)))
    except KeyboardInterrupt:
        sys.exit(_say("Stopped. Run the same command again to go on from here.", code=130))
    except Exception as error:
        if not (trouble := _trouble(error)):
            raise
        sys.exit(_say(f"{trouble}. Mend that and run the command again."))


def _trouble(error: Exception) -> str:
    """What the disk or the folders refuse; "" for anything else, which is a bug and keeps its traceback."""
    if isinstance(error, OSError) and error.errno in DISK:
        return f"{error.strerror}: {error.filename or 'while writing'}"
    safetensors = sys.modules.get("safetensors")  # its own class for a disk that is full
    if safetensors and isinstance(error, safetensors.SafetensorError) and "I/O error" in str(error):
        return str(error)
    return ""


def _say(message: str, code: int = 2) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
