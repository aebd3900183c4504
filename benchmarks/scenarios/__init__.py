"""What is measured: each module is one scenario, `measure(bench)` runs all its repeats."""
