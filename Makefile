# One command per verb. `make test` on a fresh machine is all that it takes.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
# Without a GPU torch must come by its CPU pin; with one, the machine's newest is wanted.
CONSTRAINTS := $(if $(shell command -v nvidia-smi),,-c constraints-cpu.txt)
# The variable silences the theme's notice about a successor; mkdocs.yml makes every warning an error.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs

.PHONY: help lock audit sbom release docs study demo test test-fast test-all test-wheel bench check cards fix compat lowest clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# By the lock, version and digest; then torch, whose digest depends on where it comes from, with what only torch needs.
# setuptools warns in every editable installation that folders of the package's name would hide it.
$(VENV)/installed: pyproject.toml constraints-cpu.txt requirements-lock.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements-lock.txt
	$(RUN)/python -m pip install --quiet $(CONSTRAINTS) torch
	PYTHONWARNINGS="ignore:Editable installation" \
		$(RUN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(RUN)/python -m pip check
	touch $@

# For each Python and system that pyproject.toml allows. Releases of the last week are left out: most that were
# tampered with are found by then.
lock: ## refresh requirements-lock.txt: the newest version of each dependency, with its digests
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet uv
	echo torch | $(VENV)-lock/bin/uv pip compile --quiet --upgrade --universal --generate-hashes --no-annotate \
		--exclude-newer "7 days" --excludes /dev/stdin --extra dev --custom-compile-command "make lock" \
		--output-file requirements-lock.txt pyproject.toml

audit: $(VENV)/installed ## look for known vulnerabilities in what the lock and constraints-cpu.txt name; asks the network
	$(RUN)/pip-audit --strict --disable-pip --require-hashes --requirement requirements-lock.txt
	$(RUN)/pip-audit --strict --disable-pip --no-deps --requirement constraints-cpu.txt

sbom: $(VENV)/installed ## write build/sbom.cdx.json: what the wheel needs, as it is installed here
	mkdir -p build
	$(RUN)/python .ci/sbom.py > build/sbom.cdx.json

release: $(VENV)/installed ## build the sdist and from it the wheel into dist/, and the SBOM
	rm -rf build dist
	$(RUN)/python -m build --no-isolation
	$(MAKE) sbom

study: $(VENV)/installed ## the paper in miniature: 15 tiny models, their law, exports and report, in ten minutes
	$(RUN)/curr-ab study --preset mini --out studies/mini

demo: $(VENV)/installed ## train the models that come with the package anew, in about half an hour of one core
	$(RUN)/python train_scripts/make_demo.py

test: $(VENV)/installed ## install what is needed and run the tests
	$(RUN)/pytest -n 2 --dist worksteal -m "not slow and not browser"

test-fast: $(VENV)/installed ## the tests that neither start processes nor train, in under a minute
	$(RUN)/pytest -n 2 -m "not heavy and not slow and not browser"

test-all: $(VENV)/installed chromium ## the slow tests too, and those in a browser
	$(RUN)/pytest -n 2

test-browser: $(VENV)/installed chromium ## open the report of a study in Chromium
	$(RUN)/pytest -m browser

.PHONY: test-browser chromium
chromium:
	@command -v chromium > /dev/null || { echo "chromium is missing; on Debian: apt-get install chromium" >&2; exit 1; }

bench: $(VENV)/installed ## measure: figures of one run, side by side, no tests
	cd tests && for name in roofline data inference generation scaling batches pretraining finetuning; do \
		$(CURDIR)/$(RUN)/python -m benchmarks.$$name || exit; done

.PHONY: bench-gpu
bench-gpu: $(VENV)/installed ## measure on this machine's GPUs, and fill the table of docs/benchmarks.md
	cd tests && $(CURDIR)/$(RUN)/python -m benchmarks.gpu

MINUTES ?= 60
.PHONY: soak
soak: $(VENV)/installed ## disturb every long command at random for MINUTES (60): kills, full disks, closed folders
	cd tests && $(CURDIR)/$(RUN)/python -m faults --minutes $(MINUTES) --log $(CURDIR)/faults.jsonl

INPUTS ?= 100000
SEED ?= 0
.PHONY: fuzz
fuzz: $(VENV)/installed ## have every reader read damaged and hostile files, INPUTS (100000) of them, drawn by SEED (0)
	cd tests && OMP_NUM_THREADS=1 $(CURDIR)/$(RUN)/python -m fuzz --inputs $(INPUTS) --seed $(SEED)

check: $(VENV)/installed ## lint, type-check, and verify generated files
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/mypy
	$(RUN)/python docs/generate.py --check
	$(RUN)/python model_cards/render.py --check
	$(MKDOCS) build

docs: $(VENV)/installed ## serve the documentation on http://127.0.0.1:8000
	$(MKDOCS) serve

cards: $(VENV)/installed ## render the 15 model cards
	$(RUN)/python model_cards/render.py

fix: $(VENV)/installed ## repair what can be repaired
	$(RUN)/ruff check --fix
	$(RUN)/ruff format
	$(RUN)/python docs/generate.py
	$(RUN)/python model_cards/render.py
	$(RUN)/python train_scripts/make_demo.py --refresh

# A wheel can lack files, or fail where the checkout is not beside it. tests/test_packaging.py compares its files
# with the tree and imports every module; the fast tests render the templates and read recipes, presets and corpus;
# those of the commands, of what goes to the Hub, README, quickstart and notebooks run it in fresh processes, as
# somebody without a checkout does. Trainings, jobs, faults and other inputs would only repeat `make test`.
IN_WHEEL := tests/cli/test_main.py tests/cli/test_data.py tests/cli/test_scaling.py tests/test_readme.py
IN_WHEEL += tests/hub/test_publishing.py tests/hub/test_serving.py tests/hub/test_card.py
IN_WHEEL += tests/hub/test_end_to_end.py::test_model_adapter_data_set_metric_app_and_collection
IN_WHEEL += tests/hub/test_spaces.py::test_the_wheel_is_the_package_and_the_same_each_time
test-wheel: $(VENV)/installed ## build the wheel and run against it the fast tests, commands, Hub, README, quickstart, notebooks
	rm -rf dist $(VENV)-wheel
	$(RUN)/python -m build --no-isolation --wheel
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install --quiet --no-deps dist/*.whl
	# The dependencies are those of $(VENV); its editable install stays out, because nested .pth files are not read.
	$(RUN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> "$$($(VENV)-wheel/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/dependencies.pth"
	cd tests && ../$(VENV)-wheel/bin/python -P -c "import curr_ab; assert 'site-packages' in curr_ab.__file__, curr_ab.__file__"
	$(VENV)-wheel/bin/python -P -m pytest -n 2 --dist worksteal -m "not heavy and not slow and not browser"
	$(VENV)-wheel/bin/python -P -m pytest -n 2 --dist worksteal -m "heavy and not slow and not browser" $(IN_WHEEL)
	$(VENV)-wheel/bin/python -P -m pytest -n 2 tests/test_notebooks.py "tests/test_docs.py::test_a_page_runs_as_it_stands[quickstart.md]"

compat: $(VENV)/installed ## prove the checkpoint folder with other versions of transformers
	$(RUN)/python tests/compat/run.py

# datatrove and its tests are left out: tests/compat/lowest.py says why. Old releases beside new ones warn a lot.
lowest: $(VENV)/installed ## the fast tests with the lowest versions that pyproject.toml allows
	rm -rf $(VENV)-lowest
	$(PYTHON) -m venv $(VENV)-lowest
	$(RUN)/python tests/compat/lowest.py > $(VENV)-lowest/requirements.txt
	$(VENV)-lowest/bin/python -m pip install --quiet $(CONSTRAINTS) --requirement $(VENV)-lowest/requirements.txt
	$(VENV)-lowest/bin/python -m pip install --quiet --no-deps --editable .
	$(VENV)-lowest/bin/pytest -n 2 -W ignore::DeprecationWarning \
		-m "not heavy and not slow and not browser" --ignore tests/test_cluster.py

clean: ## remove environments and caches
	rm -rf .venv* .compat build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
