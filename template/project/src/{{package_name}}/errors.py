"""The exceptions that are meant for the person at the keyboard."""


class UserError(Exception):
    """Something the user can fix: where, what is wrong, what to do; exit status 2, no traceback."""

    def __str__(self) -> str:
        # A DataLoader worker puts its traceback into the message; only the end of it is ours.
        return super().__str__().rsplit("errors.UserError: ", 1)[-1].rstrip()


class Stopped(Exception):
    """A run was asked to stop, and has saved its state; `code` is the exit status."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
