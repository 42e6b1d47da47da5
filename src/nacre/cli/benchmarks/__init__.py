"""The benchmarks: each is a function of a `Target` that returns `Figures`, and a row of `nacre.cli.bench.BENCHMARKS`."""
