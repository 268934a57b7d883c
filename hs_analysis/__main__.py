"""``python -m hs_analysis``, ``hsa`` and ``hs-analysis`` are one program."""

from hs_analysis import interrupts


def main() -> None:
    """Run the program; from here on an interrupt ends it cleanly, also while it is still being loaded."""
    interrupts.install()

    from hs_analysis.cli.app import main as program

    try:
        program()
    finally:
        interrupts.finished()


if __name__ == "__main__":
    main()
