# Every target sets up what it needs and may be repeated. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV := build/venv
PY := $(VENV)/bin/python
STAMPS := build/stamps
export PYTHONPATH := $(CURDIR)/firmware:$(CURDIR)
# The machine may forbid bytecode; without it every process start would compile the libraries anew.
unexport PYTHONDONTWRITEBYTECODE

# Debian packages, by what needs them.
APT_RUN := python3-venv lighttpd lighttpd-mod-openssl libpam-pwdfile libnss-wrapper
APT_TEST := chromium libatomic1 strace iproute2 openssl procps nftables systemd
APT_IMAGE := mmdebstrap squashfs-tools u-boot-tools device-tree-compiler kmod zstd cpio fdisk e2fsprogs systemd git
APT_QEMU := qemu-system-arm qemu-utils u-boot-qemu nftables iproute2
as_root := $(if $(filter 0,$(shell id -u)),,sudo)
apt_install = $(as_root) apt-get update -qq && $(as_root) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold $(1) >build/apt.log 2>&1 || { tail -20 build/apt.log >&2; exit 1; }

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- set-up -------------------------------------------------------------------------------------------------------

$(STAMPS)/apt-run:
	@mkdir -p $(STAMPS)
	@if dpkg -s $(APT_RUN) >/dev/null 2>&1; then echo "Debian packages to run: present"; \
	else echo "Installing Debian packages to run: $(APT_RUN)"; $(call apt_install,$(APT_RUN)); fi
	@touch $@

$(STAMPS)/apt-test: $(STAMPS)/apt-run
	@if dpkg -s $(APT_TEST) >/dev/null 2>&1; then echo "Debian packages to test: present"; \
	else echo "Installing Debian packages to test: $(APT_TEST)"; $(call apt_install,$(APT_TEST)); fi
	@touch $@

$(STAMPS)/venv: $(STAMPS)/apt-run
	@test -x $(PY) || { echo "Making the virtual environment"; $(PYTHON) -m venv $(VENV); }
	@touch $@

$(STAMPS)/sim: $(STAMPS)/venv requirements/sim.txt
	@echo "Installing Python packages to run (locked by hash)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/sim.txt
	@touch $@

$(STAMPS)/dev: $(STAMPS)/sim requirements/dev.txt
	@echo "Installing Python packages to test (locked by hash)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/dev.txt
	@touch $@

$(STAMPS)/apt-image: $(STAMPS)/apt-run
	@if dpkg -s $(APT_IMAGE) >/dev/null 2>&1; then echo "Debian packages to build the image: present"; \
	else echo "Installing Debian packages to build the image: $(APT_IMAGE)"; $(call apt_install,$(APT_IMAGE)); fi
	@touch $@

$(STAMPS)/apt-qemu: $(STAMPS)/apt-run
	@if dpkg -s $(APT_QEMU) >/dev/null 2>&1; then echo "Debian packages to boot the image: present"; \
	else echo "Installing Debian packages to boot the image: $(APT_QEMU)"; $(call apt_install,$(APT_QEMU)); fi
	@touch $@

# The two conflict as packages and would replace the machine's own logging: unpacked, not installed.
$(STAMPS)/collectors: $(STAMPS)/apt-run tests/collectors/install.sh
	@echo "Unpacking Debian's rsyslog, syslog-ng and promtool for the tests"
	@tests/collectors/install.sh build/collectors >build/collectors.log 2>&1 || { cat build/collectors.log >&2; exit 1; }
	@touch $@

.PHONY: setup
setup: $(STAMPS)/dev $(STAMPS)/apt-test $(STAMPS)/collectors ## Install all that tests and figures need

.PHONY: lock
lock: $(STAMPS)/dev ## Re-resolve the locked requirements (UPGRADE=1 takes newer releases)
	@PATH=$(CURDIR)/$(VENV)/bin:$$PATH requirements/compile.sh $(if $(UPGRADE),--upgrade)

# ---- run ----------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(STAMPS)/sim ## Run the gateway against the simulated Microsoft 365 until Ctrl-C
	@exec $(PY) -m qemu.workstation.demo

.PHONY: demo-once
demo-once: setup ## The administrator's whole path, headless, one line a step
	@exec $(PY) -m qemu.workstation.demo_once

.PHONY: gateway
gateway: $(STAMPS)/sim ## Only the gateway, in the foreground (NOTIFYD_ETC, NOTIFYD_DATA, NOTIFYD_RUN, PORT)
	@exec $(PY) -m qemu.workstation.gateway

# ---- check --------------------------------------------------------------------------------------------------------

.PHONY: lint
lint: $(STAMPS)/dev ## Style and types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

.PHONY: test
test: setup lint ## Every test (the board's under QEMU: qemu-test)
	@exec $(PY) -m pytest -m "not qemu and not campaign" -n 2 --dist loadfile --durations=15 $(ARGS)

.PHONY: bench
bench: setup ## Measure; results in build/bench.json
	@exec $(PY) -m tests.bench

$(STAMPS)/mutation: $(STAMPS)/venv requirements/mutation.txt
	@test -x build/venv-mutation/bin/python || $(PYTHON) -m venv build/venv-mutation
	@build/venv-mutation/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/mutation.txt
	@touch $@

# ---- the board ----------------------------------------------------------------------------------------------------

.PHONY: image-setup
image-setup: $(STAMPS)/dev $(STAMPS)/apt-image ## Install what building the board's image needs

.PHONY: qemu-setup
qemu-setup: $(STAMPS)/dev $(STAMPS)/apt-qemu ## Install what booting the board's image needs

.PHONY: image
image: image-setup ## Build the board's image (ARGS: --refresh, --output DIR)
	@exec $(PY) -m qemu.image $(ARGS)

.PHONY: qemu
qemu: image qemu-setup ## Boot the image with a LAN, a WAN and the simulated Microsoft 365
	@exec $(PY) -m qemu.run

.PHONY: qemu-test
qemu-test: image qemu-setup $(STAMPS)/apt-test ## The board's tests under QEMU
	@NOTIFYD_REQUIRE_QEMU=1 exec $(PY) -m pytest -s -m "qemu and not campaign" tests/board

.PHONY: qemu-cuts
qemu-cuts: image qemu-setup $(STAMPS)/apt-test ## Power cuts under load (CUTS=30)
	@NOTIFYD_CUTS=$(or $(CUTS),30) exec $(PY) -m pytest -s -m qemu tests/board/test_qemu_power.py

# ---- campaigns: long; CI runs a short sample of each within `make test` -------------------------------------------

.PHONY: crash-test
crash-test: setup ## kill -9 at random points of enqueue and send (KILLS=2000)
	@exec $(PY) -m tests.campaigns.crash --kills $(or $(KILLS),2000)

.PHONY: simulated-day
simulated-day: setup ## 10,000 mails in a simulated day against Exchange's limits
	@exec $(PY) -m tests.campaigns.simulated_day --messages 10000 --speed 90

.PHONY: fleet
fleet: setup ## 100,000 gateways after a power cut and through an outage (chart in build/)
	@exec $(PY) -m tests.campaigns.fleet --gateways $(or $(GATEWAYS),100000)

.PHONY: docs
docs: $(STAMPS)/dev ## Regenerate the documents that are made from the code
	@$(PY) docs/generate.py

.PHONY: clean
clean: ## Remove all that was built (downloads cached elsewhere stay)
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis
