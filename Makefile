# The only place that builds the virtual environment, where there is none. Needs git, make and Python 3.11 to 3.13
# (PYTHON=... names another than the first found).

# Rules and tests find `python` and `snakemake` here first.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
READY := .venv/.installed

MINUTES := 20
RUNS := 25

.PHONY: run test matrix chaos fuzz check picture lock clean help

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

run: $(READY) ## compute the default experiment and print results/wer_table.csv
	snakemake --cores all
	@python workflow_scripts/make_wer_table.py --show --csv results/wer_table.csv

test: $(READY) ## run every test, files side by side
	pytest -n 2 --dist loadfile --no-loadscope-reorder

matrix: $(READY) ## train with every pair of options, where `make test` takes a part
	pytest -n 2 tests/workflow/test_matrix.py --matrix

chaos: $(READY) ## kill the experiment at random moments, RUNS (25) times, and see that it ends as if it had not been
	pytest -s tests/workflow/test_chaos.py --chaos $(RUNS)

fuzz: $(READY) ## feed the parsers damaged files for MINUTES (20) on all cores, to the first finding
	pytest -x --dist each --tx $(shell nproc)*popen --fuzz-minutes $(MINUTES) tests/fuzz

check: $(READY) ## formatting, lint and import contracts
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	PYTHONPATH=workflow_scripts lint-imports
	snakemake --lint

picture: $(READY) ## renew docs/report.png, the page of the default experiment as README shows it
	snakemake --cores all
	python docs/picture.py results/report.html docs/report.png

lock: $(READY) ## renew requirements.txt and envs/ after a change of requirements.in
	pip install -r requirements.in
	python envs/generate.py --freeze

clean: ## remove results and logs; data/ and .venv stay
	rm -rf results logs benchmarks .snakemake

# An environment that an attempt left without pip is made anew: else the system's pip would install elsewhere.
$(READY): requirements.txt
	@.venv/bin/python -c 'import pip' 2>/dev/null || \
		{ python=$$(sh envs/find_python.sh) && "$$python" -m venv --clear .venv; }
	pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
