"""What stages hand to each other: frame contracts, the aligned service table, results and settings."""
