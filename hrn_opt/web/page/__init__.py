"""The page: its widgets, what they do, and what it says while it works."""
