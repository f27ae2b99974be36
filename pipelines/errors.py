"""A user's mistake ends a stage with one message and exit code 2, never with a traceback."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable


class UserError(Exception):
    """What was given, what is allowed, what to do: the message is all that the user sees."""


def stage(main: Callable[[], None]) -> None:
    """Run a stage's main; expected failures become one line on standard error."""
    from openautoglm.artifact import ArtifactError

    try:
        main()
    except (UserError, ArtifactError) as error:
        sys.exit(_say(str(error)))
    except KeyboardInterrupt:
        sys.exit(_say("Stopped. Run the same command again to go on from here.", code=130))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        sys.exit(_say(f"{error.strerror}: {error.filename or 'while writing'}. Mend that and run the command again."))


def _say(message: str, code: int = 2) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
