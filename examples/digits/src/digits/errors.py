"""The exceptions that are meant for the person at the keyboard."""


class UserError(Exception):
    """Something the user can mend; the message names the file, key or line, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """

    def __str__(self) -> str:
        # A DataLoader worker puts its traceback into the message; only the end of it is ours.
        return super().__str__().rsplit("errors.UserError: ", 1)[-1].rstrip()


class Stopped(Exception):
    """A run was asked to stop, and has saved its state; `code` is the exit status."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
