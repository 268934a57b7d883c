"""Readers of input files, a module a family of formats."""
