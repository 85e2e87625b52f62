"""The link process, without the process."""
