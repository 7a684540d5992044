"""Text that the command line prints: plans, tables, descriptions of files, published figures."""
