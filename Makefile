PYTHON ?= python3
BIN := .venv/bin
# For macOS: its make looks a program up in this PATH only if the shell is not /bin/sh.
SHELL := bash
# Meltano keeps its own installs here too, so nothing outside the clone is touched.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test lint unit lowest bench campaign campaign-machines definitions clean

# target-duckdb needs DuckDB 1.2, which there is for Python 3.11 to 3.13 only.
LATER = $(shell $(BIN)/python -c 'import sys; print("later" if sys.version_info >= (3, 14) else "")')
LOADER = target-duckdb$(if $(LATER),-batch)
ENVIRONMENT = $(if $(LATER),files,sandbox)

# Loads 90 days of the sandbox project into DuckDB, and compares. It reads no .env: that
# names a real project.
demo: .venv/demo
	mkdir -p output
	MELTANO_ENVIRONMENT=$(ENVIRONMENT) meltano --env-file=/dev/null run tap-mixpanel-parallel $(LOADER)
	python demo/report.py $(LOADER) output/$(ENVIRONMENT).duckdb
	python demo/questions.py output/$(ENVIRONMENT).duckdb

# The tests wait for a fifth of their time, so they take more processes than two cores.
TESTS := python -m pytest --numprocesses 3 --dist loadfile --max-worker-restart 0

# Lint, types, all tests.
test: lint unit

lint: .venv/test
	ruff check .
	ruff format --check .
	mypy .
	lint-imports
	codespell
	zizmor --offline --strict-collection --quiet .
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	check-jsonschema --builtin-schema vendor.compose-spec demo/compose.yaml
	check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml
	deptry .
	hadolint Dockerfile

# The loader's own tests run once more with the newest DuckDB: target-duckdb keeps that of the
# environment below 1.3.
unit: .venv/test
	$(TESTS)
	PYTHONPATH=.venv/newest-duckdb $(TESTS) -m "not slow" tests/target_duckdb_batch

# All tests with the lowest versions that pyproject.toml allows.
lowest: .venv-lowest/test
	.venv-lowest/bin/$(TESTS) $(PYTEST)

# Measures; QUICK=1 scales every time and amount down tenfold, ONLY="files loader" chooses.
bench: .venv/test
	python -m benchmarks $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

# Hundreds of random runs with faults and kills, each checked to the last event.
campaign: .venv/test
	python -m tests.campaign $(CAMPAIGN)

# The same on a Dask cluster, whose workers are killed as well.
campaign-machines: .venv/test
	python -m tests.campaign.machines $(CAMPAIGN)

# Writes the settings, as they are declared, into meltano.yml and the plugin definitions.
definitions: .venv/test
	python -m tests.support.definitions

# What can be made again; .meltano and output hold states and data.
clean:
	rm -rf .venv .venv-lowest .venv-loaders .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 to 3.15 is needed, this is " + sys.version.split()[0]) if not (3, 11) <= sys.version_info[:2] <= (3, 15) else None'
	$(PYTHON) -m venv .venv

.venv/demo: pyproject.toml | .venv/bin/python
	python -m pip install --quiet --editable '.[$(if $(LATER),files,duckdb),meltano]'
	touch $@

.venv/test: pyproject.toml | .venv/bin/python
	$(if $(LATER),$(error The tests need target-duckdb, and so Python 3.11 to 3.13; "make demo" does not))
	python -m pip install --quiet --editable '.[duckdb,files,lint,meltano,test]'
	python -m pip install --quiet --upgrade --no-deps --target .venv/newest-duckdb 'duckdb<3'
	touch $@ .venv/demo

.venv-lowest/test: pyproject.toml
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet 'uv>=0.8,<1'
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest --resolution lowest-direct --editable '.[duckdb,files,meltano,test]'
	touch $@
