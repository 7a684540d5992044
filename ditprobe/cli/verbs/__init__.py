"""The verbs of the command line, one module each; every verb mirrors a function of the library."""
