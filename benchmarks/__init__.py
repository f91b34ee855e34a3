"""What speakerdb costs, measured. `make bench` runs all of it; `python -m benchmarks --quick` a small one."""
