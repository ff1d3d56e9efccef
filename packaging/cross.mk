# `make deb ARCH=arm64`: what the package for another architecture than this machine's takes. Included by the Makefile.
#
# The daemon is compiled by Debian's cross compiler against libraries unpacked aside (packaging/sysroot): nothing of the
# other architecture is installed, and root is needed only for compiler and tools that are missing.

CPU_amd64 := x86_64
CPU_arm64 := aarch64
CPU := $(CPU_$(ARCH))
ifeq ($(CPU),)
$(error ARCH=$(ARCH) is none that Watchpost is packaged for: amd64, arm64)
endif

ifneq ($(filter test test-appliance,$(MAKECMDGOALS)),)
$(error ARCH=$(ARCH) is for deb and test-deb; the other tests are of this machine's own architecture)
endif

CROSS := target/cross/$(ARCH)
TRIPLE := $(CPU)-unknown-linux-gnu
CROSS_CC := $(CPU)-linux-gnu-gcc
SYSROOT := $(CURDIR)/$(CROSS)/root
SYSROOT_LIBRARIES := $(SYSROOT)/usr/lib/$(CPU)-linux-gnu
# cc-rs takes the triple with underscores, Cargo in capitals too.
TRIPLE_ID := $(subst -,_,$(TRIPLE))
TRIPLE_NAME := $(shell echo $(TRIPLE_ID) | tr a-z A-Z)

# Apart: a glob over this machine's packages must not find it. And what packaging/deb needs to know besides.
DEB := target/deb/$(ARCH)
DEB_SETTINGS := ARCH=$(ARCH) WATCHPOST_CROSS=$(CURDIR)/$(CROSS) BINARY=target/$(TRIPLE)/release/watchpost LIBRARY=$(CROSS)/onnxruntime/libonnxruntime.so

.PHONY: cross
deb: cross
# As `make test-appliance`, as far as emulation goes.
test-deb: deb
	@[ "$$(id -u)" = 0 ] || { echo "test-deb needs root: it mounts, and makes namespaces" >&2; exit 1; }
	@$(call install-missing,debootstrap qemu-user-static iproute2)
	tests/appliance/emulated $(ARCH) $(CROSS) $(DEB)/*.deb
cross: setup $(CROSS)/made $(CROSS)/onnxruntime/libonnxruntime.so
	@$(call install-missing,gcc-$(subst _,-,$(CPU))-linux-gnu)
	@rustup target list --installed | grep -qx $(TRIPLE) || rustup target add $(TRIPLE)
	env -u RUSTFLAGS PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_SYSROOT_DIR=$(SYSROOT) \
	PKG_CONFIG_LIBDIR=$(SYSROOT_LIBRARIES)/pkgconfig:$(SYSROOT)/usr/share/pkgconfig \
	CC_$(TRIPLE_ID)=$(CROSS_CC) CFLAGS_$(TRIPLE_ID)=--sysroot=$(SYSROOT) \
	CARGO_TARGET_$(TRIPLE_NAME)_LINKER=$(CROSS_CC) \
	CARGO_TARGET_$(TRIPLE_NAME)_RUSTFLAGS="-C link-arg=--sysroot=$(SYSROOT)" \
	$(CARGO) build --release --locked -p watchpost --target $(TRIPLE)

$(CROSS)/made: packaging/sysroot packaging/apt-aside packaging/apt-sources packaging/debian-packages.txt | setup
	packaging/sysroot $(ARCH) $(CROSS)
	@# Cargo does not see that libraries have changed.
	$(CARGO) clean -q --release --target $(TRIPLE) -p watchpost
	@touch $@

$(CROSS)/onnxruntime/libonnxruntime.so: packaging/onnxruntime.txt | setup
	$(call unpack-onnxruntime,$(CPU))
