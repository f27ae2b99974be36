"""What a user did wrong, in one message: what was given, what is allowed, what to do."""

from __future__ import annotations


class UserError(Exception):
    """The message is all that the user sees: no traceback, exit code 2."""
