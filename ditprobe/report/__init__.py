"""HTML reports, pages of figures and figure files."""
