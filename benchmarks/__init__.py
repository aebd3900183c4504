"""Benchmarks of this project's predictor, alone and beside other servers; see docs/benchmarks.md."""
