"""The command line: parse, call the pipeline, print, translate errors. Heavy libraries load in commands."""
