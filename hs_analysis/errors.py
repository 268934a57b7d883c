"""Errors a user can act on.

The library raises these; the command line turns each into one line on stderr and an exit code.
Everything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations


class HsError(Exception):
    """A problem with the input, the settings or the run folder, in words a user can act on.

    Parameters
    ----------
    what
        What is wrong.
    where
        File, line or byte, metric or setting it is about; empty when it is about the whole command.
    hint
        What to do next.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what = what
        self.where = where
        self.hint = hint
        super().__init__(self.line())

    def line(self) -> str:
        """Return the one-line form: ``where: what; hint``."""
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.hint}" if self.hint else text


class UsageError(HsError):
    """A flag or an argument that can't be understood."""

    exit_code = 2


class InputError(HsError):
    """An input file that can't be read as what it claims to be."""


class ServerError(HsError):
    """A metrics server that can't be reached, refuses, or gives no usable answer."""


class RunFolderError(HsError):
    """A run folder that is missing, locked, or made from other inputs."""


class ContractError(HsError):
    """A frame that does not keep its contract; names the table and the column."""


class ManyErrors(HsError):  # noqa: N818 - several errors, so the plural
    """Several problems at once; the command line prints the first three and counts the rest."""

    def __init__(self, errors: list[HsError]) -> None:
        self.errors = errors
        super().__init__("; ".join(error.line() for error in errors))
