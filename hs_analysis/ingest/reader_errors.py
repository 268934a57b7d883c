"""The one net under reading a file: what no reader foresaw is a bug that costs this file, not the others."""

from __future__ import annotations

import hashlib
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hs_analysis
from hs_analysis.errors import HsError, InputError, is_of_the_machine

BUGS_FILE = "data/bugs.txt"
"""In the run folder: the tracebacks of files that could not be read, where others could."""

_PACKAGE = Path(hs_analysis.__file__).parent


class ReaderBugError(InputError):
    """A file whose reading ended in a way that nobody foresaw.

    Parameters
    ----------
    error
        What was raised.
    where
        The file.
    """

    def __init__(self, error: BaseException, where: str) -> None:
        self.kind = f"this is a bug in hsa ({type(error).__name__} at {_innermost_line(error)})"
        self.account = "".join(traceback.format_exception(error))
        """The traceback, for who mends it."""
        super().__init__(
            f"{self.kind}; please report it with {BUGS_FILE} of the run folder, which hsa ingest keeps",
            where=where,
        )


@contextmanager
def catch_reader_bugs(where: str) -> Iterator[None]:
    """Turn any error that is neither in words, nor the machine's, nor an interrupt into a ReaderBugError.

    Parameters
    ----------
    where
        The file that is read inside the block.
    """
    try:
        yield
    except (HsError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # a panic of a library is no Exception
        if is_of_the_machine(error) or isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            raise
        raise ReaderBugError(error, where) from error


def _innermost_line(error: BaseException) -> str:
    """Return the innermost line of this program that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if Path(f.filename).is_relative_to(_PACKAGE)] or frames
    last = Path(own[-1].filename)
    name = last.relative_to(_PACKAGE.parent) if last.is_relative_to(_PACKAGE) else Path(last.name)
    return f"{name.as_posix()} line {own[-1].lineno}"


def command_error(error: InputError) -> InputError:
    """Return an error that ends the command; the traceback of a bug is kept in a file, which it names.

    It is among the temporary files, as a command that fails leaves no folder; equal tracebacks share one.
    """
    if not isinstance(error, ReaderBugError):
        return error
    text = f"hsa {hs_analysis.__version__}\n{error.account}".encode("utf-8", "backslashreplace")
    path = Path(tempfile.gettempdir(), f"hsa-bug-{hashlib.sha256(text).hexdigest()[:12]}.txt")
    path.write_bytes(text)
    return InputError(
        f"could not be read; {error.kind}", where=error.where, hint=f"please report it with {path}"
    )
