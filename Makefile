# Both targets set themselves up in .venv and reuse it. PYTHON names an interpreter of version 3.11 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo-out

.PHONY: demo test bench lint clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.create
	$(BIN)/bahu demo --out $(OUT)
	@echo "Open $(OUT)/index.html"

test: $(VENV)/.dev
	$(BIN)/ruff check src tests bench recipes
	$(BIN)/ruff format --check src tests bench recipes
	$(BIN)/mypy
	$(BIN)/python -m pytest -rs --numprocesses auto --dist loadfile

bench: $(VENV)/.dev
	$(BIN)/python -m bench $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format src tests bench recipes
	$(BIN)/ruff check --fix src tests bench recipes
	$(BIN)/mypy

# torch and torchvision by name in the same command: a torch found first elsewhere would not fit torchvision.
$(VENV)/.create: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch torchvision --editable '.[create]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch torchvision --editable '.[create,web,scale,dev,recipes]'
	touch $@ $(VENV)/.create

clean:
	rm -rf $(VENV) demo-out build dist .pytest_cache .mypy_cache .ruff_cache
