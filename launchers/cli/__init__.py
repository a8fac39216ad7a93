"""The command line: parser, commands, tables on the terminal; and what the container image starts."""
