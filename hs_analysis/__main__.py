"""``python -m hs_analysis``, ``hsa`` and ``hs-analysis`` are one program."""

from hs_analysis.cli.app import main

if __name__ == "__main__":
    main()
