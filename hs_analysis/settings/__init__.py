"""Settings from hsa.toml, HSA_* variables and flags: what there is to set, how it is read, which one wins."""
