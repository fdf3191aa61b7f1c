"""The library behind the workflow's scripts: plain functions, importable without Snakemake."""

import os

# Nothing calls home: the libraries below report their use unless told not to.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Threads that wait by spinning slow a training tenfold as soon as anything else wants a core (read when torch loads).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
