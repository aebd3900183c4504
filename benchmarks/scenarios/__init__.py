"""What is measured: each module is one scenario, `measure(bench, repeat)` one round of it."""
