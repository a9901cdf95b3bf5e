# Everything a fresh Debian or Ubuntu machine needs to build, try and test obuild.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
VENV := .venv
STORE ?= overlay:/var/cache/obuild

RUN_PACKAGES := crun tini mmdebstrap debian-archive-keyring skopeo zstd
TEST_PACKAGES := $(RUN_PACKAGES) runc btrfs-progs busybox-static docker.io buildah opam attr xfsprogs iproute2 xz-utils bzip2 lz4 git rsync

.PHONY: all demo test bench install-run install-test clean

all: $(VENV)/run

# What running needs: the programs of Debian that obuild calls, and a virtual environment with obuild in it.
install-run:
	@.ci/apt-install $(RUN_PACKAGES)

install-test:
	@.ci/apt-install $(TEST_PACKAGES)

$(VENV)/run: pyproject.toml
	@test -n "$(PYTHON)" || { echo 'make: Python 3.11 or newer is needed: apt-get install python3 python3-venv' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || .ci/apt-install python3-venv
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@$(VENV)/bin/python -m compileall -q obuild
	@touch $@

$(VENV)/test: pyproject.toml $(VENV)/run
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

# Build a small spec for real, then look at what was made.
demo: install-run $(VENV)/run
	$(SUDO) $(VENV)/bin/obuild build --store $(STORE) --image debian:13=debootstrap:trixie -f examples/hello.spec examples
	$(SUDO) $(VENV)/bin/obuild ls --store $(STORE)

test: install-test $(VENV)/test
	$(SUDO) $(VENV)/bin/python -m pytest -n 2 $(TESTS)

bench: install-test $(VENV)/test
	$(SUDO) $(VENV)/bin/python -m benchmarks

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
