"""What tests and benchmarks need and the wheel leaves out."""
