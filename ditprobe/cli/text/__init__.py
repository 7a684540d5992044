"""Text that the command line prints: plans, tables, files described, published figures."""
