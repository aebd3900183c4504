"""What can go wrong in a rollout: one tree, each with the exit status of the command.

Exit status 0: done; 1: refused or impossible; 2: rolled back; 3: stopped on the way; 64: wrong arguments.
"""

EXIT_USAGE = 64


class RolloutError(Exception):
    """Anything that ends a command before its aim."""

    exit_status = 1


class Refused(RolloutError):
    """The state of the service does not allow it."""


class Forbidden(RolloutError):
    """The API server does not let this user do it: the Role is missing a rule."""


class NotFound(RolloutError):
    """An object, or its whole kind, is not there."""


class Rejected(RolloutError):
    """The API server, or a webhook, found an object wrong."""


class Conflict(RolloutError):
    """Someone else wrote the object since it was read: read it again."""


class Unavailable(RolloutError):
    """The API server, or what it asked, does not answer now; it may later."""

    exit_status = 3


class RolledBack(RolloutError):
    """The new look was taken back."""

    exit_status = 2


class TimedOut(RolloutError):
    """What was waited for did not come."""

    exit_status = 3


class Interrupted(RolloutError):
    """Ctrl-C or SIGTERM."""

    exit_status = 3
