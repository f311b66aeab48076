# `make` alone lists the targets. Each sets up the environment it needs, once.

PYTHON ?= python3
PORT ?= 8000
ENVIRONMENT := PYTHON="$(PYTHON)" $(PYTHON) .ci/environment.py
RUN := .venv/bin/python
BOOK := .venv-book/bin/python

.DEFAULT_GOAL := help
.PHONY: help book serve test test-slow test-oldest lint lab notebooks student wasm benchmark benchmark-engine lock lock-benchmark address dist clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 18

book: ## build the book into _build/html (needs no torch)
	@$(ENVIRONMENT) book
	@$(BOOK) .ci/book.py

serve: book ## build the book and serve it on http://localhost:$(PORT)
	@echo "http://localhost:$(PORT) (Ctrl+C stops)"
	@$(BOOK) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

test: lint book ## run every test but the slow ones
	@$(RUN) -m pytest -n auto --dist loadfile -m "not slow" tests chapters --nbval --nbval-current-env

test-slow: book ## run the slow tests
	@$(ENVIRONMENT) full
	@$(RUN) -m pytest -m slow tests

LIBRARY := $(addprefix tests/,attacks commands evaluation models reports training verification) \
	$(addprefix tests/test_,checks.py data.py losses.py models.py modes.py runtime.py threat.py)

test-oldest: ## run the library's tests with the oldest packages that pyproject.toml allows
	@$(ENVIRONMENT) oldest
	@.venv-oldest/bin/python -m pytest -n auto --dist loadfile -m "not slow and not browser" \
		$(LIBRARY) --ignore tests/commands/test_page.py

lint: ## check style, types and workflows
	@$(ENVIRONMENT) full
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@.venv/bin/zizmor --offline --quiet .github/workflows

lab: ## open the chapters in JupyterLab
	@$(ENVIRONMENT) full
	@$(RUN) -m jupyterlab --notebook-dir=chapters

notebooks: ## run the chapters (CHAPTERS="…" for some) and write their outputs back
	@$(ENVIRONMENT) full
	@$(RUN) .ci/notebooks.py $(CHAPTERS)

student: ## write notebooks for a class into dist/ (FOR=nbgrader or FOR=otter for these)
	@$(ENVIRONMENT) full
	@$(RUN) .ci/student.py $(if $(FOR),--for $(FOR)) $(CHAPTERS)

wasm: ## compile the pages' engine (CHECK=--check compares with what is committed)
	@$(ENVIRONMENT) compiler
	@.venv-compiler/bin/python lib/within_epsilon/widgets/frontend/engine/build.py $(CHECK)

benchmark: ## compare the attacks with other libraries (development only; takes long)
	@$(ENVIRONMENT) benchmark
	@MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=33554432 PYTHONPATH=benchmarks \
		.venv-benchmark/bin/python benchmarks/attacks/compare.py $(TABLES)

benchmark-engine: ## compare the pages' engine with onnxruntime-web and torch (development only; needs npm)
	@$(ENVIRONMENT) benchmark
	@npm ci --silent --prefer-offline --prefix benchmarks/engine
	@PYTHONPATH=benchmarks .venv-benchmark/bin/python benchmarks/engine/compare.py $(TABLES)

lock: ## renew requirements.txt from pyproject.toml
	@$(ENVIRONMENT) full
	@.venv/bin/uv pip compile --quiet --upgrade --universal --generate-hashes \
		--python-version 3.11 --all-extras --group book --group lab --group test \
		--group install --no-header pyproject.toml --output-file requirements.txt

lock-benchmark: ## renew benchmarks/requirements.txt from benchmarks/requirements.in
	@$(ENVIRONMENT) full
	@.venv/bin/uv pip compile --quiet --upgrade --universal --generate-hashes \
		--python-version 3.11 --no-header benchmarks/requirements.in \
		--output-file benchmarks/requirements.txt

address: ## move the project: make address URL=https://github.com/you/your-fork
	@$(PYTHON) .ci/address.py "$(URL)"

dist: ## build the wheel and the source distribution into dist/
	@$(ENVIRONMENT) full
	@.venv/bin/uv build --quiet --no-build-isolation --python $(RUN) --out-dir dist

clean: ## delete what was built, environments included
	rm -rf _build dist .venv .venv-book .venv-benchmark .venv-compiler .venv-oldest benchmarks/engine/node_modules
