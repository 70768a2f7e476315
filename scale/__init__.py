"""Several workers on one machine, for real: `make scale-demo`, and the arithmetic of `docs/scaling.md`."""
