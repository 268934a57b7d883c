"""``python -m hs_analysis``, ``hsa`` and ``hs-analysis`` are one program."""

import gc
import os

from hs_analysis import interrupts

OBJECTS_PER_COLLECTION = 50_000
"""New objects after which Python looks for circular garbage, 700 by default [count]: a run makes many objects
that live to its end, and visiting them again and again takes CPU time. Default of this project."""

THREADS_OF_ALGEBRA = "OPENBLAS_NUM_THREADS"
"""Environment variable of numpy and scipy, one here unless it is set: the matrices of a run are small, and
a second thread waits for the next one at full speed. Read when they are loaded."""


def main() -> None:
    """Run the program; from here on an interrupt ends it cleanly, also while it is still being loaded."""
    interrupts.install()
    gc.set_threshold(OBJECTS_PER_COLLECTION)
    os.environ.setdefault(THREADS_OF_ALGEBRA, "1")

    from hs_analysis.cli.app import main as program

    try:
        program()
    finally:
        interrupts.finished()
        gc.freeze()  # on the way out nobody needs to know what is circular garbage


if __name__ == "__main__":
    main()
