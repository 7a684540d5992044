"""HTML reports and figure files."""
