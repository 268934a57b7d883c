"""Errors a user can act on.

The library raises these; the command line turns each into one line on stderr and an exit code.
Everything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


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
    """A flag, an argument or a setting that can't be understood."""

    exit_code = 2


class InputError(HsError):
    """An input file that can't be read as what it claims to be."""


class ServerError(HsError):
    """A metrics server that can't be reached, refuses, or gives no usable answer."""


class RunFolderError(HsError):
    """A run folder that is missing, locked, or made from other inputs."""


class GateFailed(HsError):  # noqa: N818 - a gate that closes is an answer, not a fault
    """A condition of ``--fail-on`` holds; the result is printed all the same."""

    exit_code = 3


class RowsRejected(HsError):  # noqa: N818 - the input's state, not a fault of the tool
    """Rows were rejected or a file was broken, and ``--strict`` was given."""

    exit_code = 4


class DataMissing(HsError):  # noqa: N818 - the server's state, not a fault of the tool
    """Less came from a server than was planned, and ``--strict`` was given; the result is printed anyway."""

    exit_code = 4


class ContractError(HsError):
    """A frame that does not keep its contract; names the table and the column."""


class MachineError(HsError):
    """The machine refuses: no space, no permission, no memory."""


_MACHINE = {
    errno.ENOSPC: ("no space left", "free some there and where TMPDIR points, or choose another place"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or choose another place"),
    errno.EFBIG: ("a file would become larger than is allowed", "raise the limit (ulimit -f)"),
    errno.EROFS: ("the file system is read-only", "choose another place"),
    errno.EACCES: ("no permission to write there", "change the permissions, or choose another place"),
    errno.EPERM: ("no permission to write there", "change the permissions, or choose another place"),
    errno.EMFILE: ("too many open files", "raise the limit (ulimit -n)"),
    errno.EIO: ("the disk or its network can't be read or written", "check the disk"),
    errno.ENAMETOOLONG: ("a name is too long for the file system", "choose a shorter one"),
}
"""What the system says → what it means and what to do."""

_SAID = {
    "no space left on device": errno.ENOSPC,
    "file too large": errno.EFBIG,
    "read-only file system": errno.EROFS,
}
"""The same in the messages of libraries that give no number."""


def is_of_the_machine(error: BaseException) -> bool:
    """Whether an error says that the machine refuses, rather than that something is wrong in what it does."""
    return isinstance(error, MemoryError) or _number(error) is not None


def _number(error: BaseException) -> int | None:
    """Return the number of what the machine refuses, None for all other errors."""
    number = getattr(error, "errno", None)
    if number in _MACHINE:
        return int(number)
    text = str(error).lower()
    return next((code for said, code in _SAID.items() if said in text), None)


@contextmanager
def machine_in_words(where: str) -> Iterator[None]:
    """Turn what the machine refuses inside the block into a MachineError; bugs pass.

    Parameters
    ----------
    where
        Folder that is written there.
    """
    try:
        yield
    except HsError:
        raise
    except MemoryError as error:
        raise MachineError(
            "not enough memory", where=where, hint="lower --memory-limit, or give more"
        ) from error
    except Exception as error:
        number = _number(error)
        if number is None:
            raise
        what, hint = _MACHINE[number]
        place = getattr(error, "filename", None)
        raise MachineError(what, where=str(place or where), hint=hint) from error


class ManyErrors(HsError):  # noqa: N818 - several errors, so the plural
    """Several problems at once; the command line prints the first three and counts the rest.

    Parameters
    ----------
    errors
        The problems.
    more
        The command that tells all of them; empty for ``hsa doctor INPUT``.
    all_told
        Whether the command line prints every one, because they are what was asked for.
    """

    def __init__(self, errors: list[HsError], *, more: str = "", all_told: bool = False) -> None:
        self.errors = errors
        self.more = more
        self.all_told = all_told
        super().__init__("; ".join(error.line() for error in errors))


def first_of(names: Sequence[str], most: int, between: str = ", ") -> str:
    """Return the first ``most`` names for a sentence, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return between.join(names[:most]) + more
