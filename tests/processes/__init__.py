"""A whole tunnel as processes: its start, its failures, its end."""
