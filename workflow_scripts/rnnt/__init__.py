"""The library behind the workflow's scripts: plain functions, importable without Snakemake."""

import os

# Nothing calls home: the libraries below report their use unless told not to.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
