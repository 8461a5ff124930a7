"""The exceptions that the command line prints without a traceback."""


class UserError(Exception):
    """An error that the user can fix, as `WHERE: what is wrong; what to do`; exit status 2."""

    def __str__(self) -> str:
        # A DataLoader worker puts its traceback before the message. A line may quote megabytes.
        text = super().__str__().rsplit("errors.UserError: ", 1)[-1].rstrip()
        lines = (f"{s[:700]} … {s[-200:]}" if len(s) > 1100 else s for s in text.splitlines())
        return "\n".join(lines)


class Stopped(Exception):
    """A signal stopped a run, whose state is saved; `code` is the exit status."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
