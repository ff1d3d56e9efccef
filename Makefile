# Watchpost: the few commands people use. Each installs what it lacks.
#
#   make run       build everything and start the demo: a rendered scene, shipped models and plugins, own broker
#   make test      all tests
#   make accept    the acceptance: twenty rendered scenes through the whole daemon (a quarter of an hour)
#   make bench     the CPU budgets, as ratios measured in one run
#   make deb       the Debian package: target/deb/watchpost_*.deb; ARCH=arm64: built across, target/deb/arm64/
#   make test-appliance  the package in a booted Debian, through a user's week (root; part of `make test` there)
#   make test-deb ARCH=arm64  that package in an emulated Debian, up to an alert (root)
#   make ptx       compile the GPU's kernels again, after a change of daemon/src/gpu/kernels
#   make gpu-bundle  what tests/gpu/run takes to a machine with a GPU
#   make lint      rustfmt --check, clippy -D warnings
#   make audit     what can be said of the dependency tree offline
#   make fmt doc   format; build the documentation
#   make train     train the shipped models again (hours)

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# Plugins travel: without debug information they are a tenth of the size. And they run for each frame of each stream:
# optimised as a whole, as `plugin new` sets up everybody's.
WASM := CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_RELEASE_STRIP=true CARGO_PROFILE_RELEASE_LTO=fat \
  CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 CARGO_PROFILE_RELEASE_INCREMENTAL=false $(CARGO)
ONNXRUNTIME_VERSION := 1.31.1
ONNXRUNTIME := target/onnxruntime/libonnxruntime.so
SHIPPED_PLUGINS := tracker violence-alert camera-framing
DIST := target/dist
WATCHPOST := target/release/watchpost
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PACKAGES := $(shell sed 's/\#.*//' packaging/debian-packages.txt)
MACHINE := $(shell uname -m)
HERE := $(shell dpkg --print-architecture)

export ORT_DYLIB_PATH := $(CURDIR)/$(ONNXRUNTIME)


.PHONY: help setup setup-train build plugins run demo deb test test-appliance test-deb soft-driver ptx gpu-bundle accept bench fmt lint doc audit train clean

help:
	@sed -n '/^#   make/s/^# *//p' Makefile

## Set-up

# Debian packages that are not there yet.
install-missing = missing=""; for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing:$$missing"; $(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; fi

setup: $(ONNXRUNTIME)
	@$(call install-missing,$(PACKAGES))
	@rustup target list --installed | grep -qx wasm32-wasip2 || rustup target add wasm32-wasip2
	@for c in rustfmt clippy; do rustup component list --installed | grep -q "^$$c" || rustup component add $$c; done

# The library out of the wheel of an architecture. The wheel is only an archive here: no Python package is installed.
define unpack-onnxruntime
	@$(call install-missing,python3 python3-pip ca-certificates)
	@mkdir -p $(@D)
	python3 -m pip download -q --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: --python-version 3.11 \
	  --implementation cp --platform manylinux_2_28_$(1) -d $(@D) -r packaging/onnxruntime.txt
	cd $(@D) && python3 -m zipfile -e onnxruntime-$(ONNXRUNTIME_VERSION)-*.whl unpacked
	mv -f $(@D)/unpacked/onnxruntime/capi/libonnxruntime.so.$(ONNXRUNTIME_VERSION) $@
	cp $(@D)/unpacked/onnxruntime/LICENSE $(@D)/ 2>/dev/null || true
	rm -rf $(@D)/unpacked $(@D)/*.whl
	@touch $@
endef

$(ONNXRUNTIME): packaging/onnxruntime.txt
	$(call unpack-onnxruntime,$(MACHINE))

## Build

plugins: setup
	$(WASM) build --release --locked --target wasm32-wasip2 $(SHIPPED_PLUGINS:%=-p %)
	@mkdir -p $(DIST)/plugins
	@for p in $(SHIPPED_PLUGINS); do install -m 644 target/wasm32-wasip2/release/$${p//-/_}.wasm $(DIST)/plugins/$$p.wasm; done

build: plugins
	$(CARGO) build --release --locked -p watchpost
	@mkdir -p $(DIST)/models
	@for m in people violence; do mkdir -p $(DIST)/models/$$m; install -m 644 models/$$m/* $(DIST)/models/$$m/; done

# The tools are only for who makes the package.
PACKAGING := debhelper dpkg-dev lintian lowdown
ARCH := $(HERE)
DEB := target/deb
ifneq ($(ARCH),$(HERE))
include packaging/cross.mk
else
test-deb:
	@echo "test-deb is for the package of another architecture than this machine's: make test-deb ARCH=arm64, or amd64. For its own: make test-appliance" >&2; exit 1
endif
deb: build
	@$(call install-missing,$(PACKAGING))
	rm -f $(DEB)/*.deb
	$(DEB_SETTINGS) packaging/deb $(DEB)
	lintian --fail-on error,warning $(DEB)/*.deb

## Use

run demo: build
	$(WATCHPOST) demo

## Check

test: build soft-driver
	$(WASM) build --release --locked --target wasm32-wasip2 -p misbehave --lib --examples
	$(CARGO) test --release --locked --workspace --lib --bins -- --test-threads=2
	$(CARGO) test --release --locked -p e2e --test house_rules
	# One at a time: each starts servers and a daemon, and one of them keeps the machine busy on purpose.
	$(CARGO) test --release --locked -p e2e --test scenarios -- --test-threads=1
	$(CARGO) test --release --locked --doc -p watchpost-plugin
	tests/cuda/check.sh
	@if [ "$$(id -u)" = 0 ] && grep -qsx ID=debian /etc/os-release || [ "$${WATCHPOST_REQUIRE_DATA:-}" = 1 ]; then $(MAKE) test-appliance; \
	else echo "SKIPPED test-appliance: needs root on Debian"; fi

# The package in a Debian of its own, booted in namespaces. What is downloaded for it stays below target/appliance.
test-appliance: deb
	@[ "$$(id -u)" = 0 ] || { echo "test-appliance needs root: it mounts, and makes namespaces" >&2; exit 1; }
	@$(call install-missing,debootstrap)
	tests/appliance/root target/appliance target/deb/*.deb
	$(CARGO) test --release --locked -p e2e --test scenarios -- --ignored --exact appliance::week::a_users_week --nocapture

# A CUDA driver for tests where there is no GPU: device memory is host memory, everything is counted.
SOFT_DRIVER := blocks books contexts copies faults fences kernels memory odds pointers ptx settings streams work
SOFT_CC := gcc -std=c11 -O2 -Wall -Wextra -Werror -fPIC -fvisibility=hidden -shared

soft-driver: target/cuda/libcuda.so.1 target/cuda/libnvcuvid.so.1 target/cuda/libnvidia-ml.so.1 target/cuda/old/libnvidia-ml.so.1

target/cuda/libcuda.so.1: $(SOFT_DRIVER:%=tests/cuda/%.c) tests/cuda/soft.h tests/cuda/ptx.h
	@mkdir -p $(@D)
	$(SOFT_CC) -Wl,-soname,$(@F) -Wl,-z,defs -Wl,-z,nodelete -o $@ $(filter %.c,$^) -ldl -pthread

target/cuda/libnvcuvid.so.1: tests/cuda/nvcuvid.c
	@mkdir -p $(@D)
	$(SOFT_CC) -Wl,-soname,$(@F) -o $@ $<

# For a machine with a GPU: see tests/gpu/run.
gpu-bundle: build
	@$(call install-missing,zstd)
	tests/gpu/bundle target/watchpost-gpu.tar.zst

# Elements that stand for NVDEC and NVENC there: a folder of its own, which GST_PLUGIN_PATH names in tests that want them.
soft-driver: target/cuda/codecs/libgstsoftcodecs.so

target/cuda/codecs/libgstsoftcodecs.so: tests/cuda/codecs.c
	@mkdir -p $(@D)
	$(SOFT_CC) -o $@ $< $$(pkg-config --cflags --libs gstreamer-1.0)

# Apart from the others: where it is found, GStreamer's nvcodec opens a session at its start.
soft-driver: target/cuda/encode/libnvidia-encode.so.1

target/cuda/encode/libnvidia-encode.so.1: tests/cuda/nvenc.c
	@mkdir -p $(@D)
	$(SOFT_CC) -Wl,-soname,$(@F) -Wl,-z,defs -o $@ $<

target/cuda/libnvidia-ml.so.1: tests/cuda/nvml.c
	@mkdir -p $(@D)
	$(SOFT_CC) -Wl,-soname,$(@F) -Wl,-z,defs -o $@ $< -pthread

# That of an old driver, which lacks some functions.
target/cuda/old/libnvidia-ml.so.1: tests/cuda/nvml.c
	@mkdir -p $(@D)
	$(SOFT_CC) -DOLD -Wl,-soname,$(@F) -Wl,-z,defs -o $@ $< -pthread

# ONNX Runtime with GPU providers that are none: a folder of its own, which infer.library names in tests that want it.
soft-driver: target/cuda/onnxruntime/libonnxruntime.so target/cuda/onnxruntime/libnvinfer.so.10

target/cuda/onnxruntime/libonnxruntime.so: tests/cuda/onnxruntime.c
	@mkdir -p $(@D)
	$(SOFT_CC) -Wl,-soname,$(@F) -Wl,-z,defs -o $@ $< -ldl -pthread

target/cuda/onnxruntime/libnvinfer.so.10: tests/cuda/onnxruntime.c
	@mkdir -p $(@D)
	$(SOFT_CC) -DNVINFER -Wl,-soname,$(@F) -o $@ $<

# The GPU's kernels for the software driver, which runs them on the host.
KERNELS := tensor view draw boxes planes grid
KERNEL_DIR := daemon/src/gpu/kernels

soft-driver: target/cuda/kernels.so

target/cuda/kernels.so: $(KERNELS:%=$(KERNEL_DIR)/%.cu) $(KERNEL_DIR)/common.h
	@mkdir -p $(@D)
	for k in $(KERNELS); do c++ -x c++ -std=c++14 -O2 -ffp-contract=off -fno-math-errno -Wall -Wextra -Werror -fPIC -c $(KERNEL_DIR)/$$k.cu -o $(@D)/$$k.o; done
	c++ -shared -o $@ $(KERNELS:%=$(@D)/%.o)

# The kernels as PTX, which the tree holds: only who changes a kernel needs clang. The first line says of which sources.
PTX_FLAGS := -x cuda --cuda-device-only -nocudainc -nocudalib -S -std=c++14 -O3 -ffp-contract=off -fno-math-errno \
  -Wall -Wextra -Werror --cuda-gpu-arch=sm_60 -Xclang -target-feature -Xclang +ptx60

ptx:
	@$(call install-missing,clang-14)
	for k in $(KERNELS); do clang-14 $(PTX_FLAGS) $(KERNEL_DIR)/$$k.cu -o $(KERNEL_DIR)/$$k.body && \
	  { echo "// common.h and $$k.cu, SHA-256 $$(cat $(KERNEL_DIR)/common.h $(KERNEL_DIR)/$$k.cu | sha256sum | cut -d' ' -f1)"; cat $(KERNEL_DIR)/$$k.body; } > $(KERNEL_DIR)/$$k.ptx && \
	  rm $(KERNEL_DIR)/$$k.body || exit 1; done

accept: build
	WATCHPOST_ACCEPT=all $(CARGO) test --release --locked -p e2e --test scenarios accept -- --nocapture

bench: build
	$(WASM) build --release --locked --target wasm32-wasip2 -p misbehave --examples
	$(WATCHPOST) bench plugin target/wasm32-wasip2/release/examples/echo.wasm
	$(WATCHPOST) bench preprocess
	$(WATCHPOST) bench lane
	@[ -x target/bench-venv/bin/python ] || { python3 -m venv target/bench-venv && \
	  target/bench-venv/bin/python -m pip install -q --disable-pip-version-check numpy opencv-python-headless; }
	target/bench-venv/bin/python tests/bench/opencv_preprocess.py $(WATCHPOST)
	$(CARGO) build --release --locked -p e2e --bin budgets
	target/release/budgets

fmt:
	$(CARGO) fmt --all

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

doc: setup
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --release --locked --no-deps --workspace

# Offline: the lock file is complete and in use, every foreign package has a checksum, none comes from git.
audit:
	$(CARGO) tree --locked --offline --workspace -q > /dev/null
	@! grep -n 'source = "git' Cargo.lock
	@awk '/^\[\[package\]\]/{if(s&&!c){print n" has no checksum";bad=1} s=c=0} /^name/{n=$$3} /^source/{s=1} /^checksum/{c=1} END{exit bad}' Cargo.lock
	@echo "audit: $$(grep -c '^checksum' Cargo.lock) packages pinned by checksum, none from git"

## Train (never part of `make test`)

setup-train: setup
	@$(call install-missing,python3-torch python3-numpy python3-pil python3-onnx ffmpeg)
	@[ -d target/train-python ] || /usr/bin/python3 -m pip install -q --disable-pip-version-check --target target/train-python onnxruntime==$(ONNXRUNTIME_VERSION)

train: build setup-train
	PYTHONPATH=$(CURDIR)/target/train-python models/training/run.sh

clean:
	$(CARGO) clean
