"""The lab of the demo, the tests and the benchmark."""
