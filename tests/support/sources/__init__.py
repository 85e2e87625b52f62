"""A folder for PYTHONPATH, by which every Python that is started runs the sources: see tests.support.interpreted."""
