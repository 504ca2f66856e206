# One command for each thing that one does with a fresh clone. `make` alone lists them.
CARGO ?= cargo
# All targets of all rooms in one go, always: the same features everywhere, so nothing is built twice.
FEATURES = --features eagre-kernels/gpu,eagre/polars
KERNELS = -p eagre-kernels --features gpu
BUILD = $(CARGO) build --locked --workspace --all-targets $(FEATURES)
NEXTEST := $(shell $(CARGO) nextest --version 2>/dev/null)

# Finds a Vulkan driver for the shaders.
VULKAN = ./.ci/vulkan
# The widths of subgroups that drivers have differ; lavapipe can have several of them (4, 8 and 16 lanes).
WIDTHS = 128 256 512

.PHONY: help test test-kernels soak false-alarms forecast-accuracy test-random fmt lint check bench demo licences

help:
	@echo 'make test      all tests (what CI runs)'
	@echo 'make test-kernels  the kernels on a software GPU of three widths, with checked and with trusted shaders (part of make test)'
	@echo 'make soak      half an hour of random steps with failing devices, against the CPU alone'
	@echo 'make false-alarms  how often alarms come on millions of rows without anomalies, beside the rate that was asked for'
	@echo 'make forecast-accuracy  how good forecasts are on real and generated series, flair and conv beside seasonal naive'
	@echo 'make test-random  the laws with another seed, and ten minutes of random queries against the batch answer, of random patterns against a naive evaluator'
	@echo 'make check     test + format + lints + licences'
	@echo 'make bench     the micro-benchmarks, Nexmark and patterns, as benches/README.md tells'
	@echo 'make demo      eagre on real data'

# A C compiler builds zstd and the allocator; cargo says so badly.
toolchain:
	@command -v $(CARGO) >/dev/null || { echo 'cargo is missing: install Rust from https://rustup.rs'; exit 1; }
	@command -v cc >/dev/null || { echo 'a C compiler is missing: apt-get install gcc (or clang)'; exit 1; }

test: toolchain
	$(BUILD)
ifneq ($(NEXTEST),)
	$(VULKAN) $(CARGO) nextest run --locked --workspace $(FEATURES)
else
	@echo 'cargo-nextest is not installed; cargo test runs the same tests (`cargo install cargo-nextest` makes it quicker)'
	$(VULKAN) $(CARGO) test --locked --workspace $(FEATURES) --lib --bins --tests
endif
	$(CARGO) test --locked --workspace $(FEATURES) --doc
	$(MAKE) test-kernels

# `--workspace` with a filter, not `-p`: the same features of all dependencies, so that nothing is built again. Tests that need a device
# have one of these words in their path; the others do not depend on widths and shaders. The benchmark's runs of all kernels, most of the
# time of these tests, are done once, with all others.
ifneq ($(NEXTEST),)
TEST_KERNELS = $(CARGO) nextest run --locked --workspace $(FEATURES) -E 'package(eagre-kernels) and test(/device|gpu|placed/) and not test(/^bench::/)'
else
TEST_KERNELS = $(CARGO) test --locked $(KERNELS) --lib -- device gpu placed --skip bench::
endif

test-kernels: toolchain
	@set -e; for width in $(WIDTHS); do for shaders in checked trusted; do \
		echo "kernels with $$width-bit vectors, $$shaders shaders"; \
		LP_NATIVE_VECTOR_WIDTH=$$width EAGRE_TEST_SHADERS=$$shaders $(VULKAN) $(TEST_KERNELS); \
	done; done

soak: toolchain
	EAGRE_SOAK_SECONDS=1800 EAGRE_SOAK_SEED=$$(date +%s) $(VULKAN) \
		$(CARGO) test --locked $(KERNELS) --lib -- --nocapture random_faults

false-alarms: toolchain
	$(CARGO) test --locked --release -p eagre-kernels --lib -- --ignored --nocapture the_rate_is_held

forecast-accuracy: toolchain
	$(CARGO) test --locked --release -p eagre-kernels --lib -- --ignored --nocapture the_network_forecasts

test-random: toolchain
	$(BUILD)
	PROPTEST_RNG_SEED=$$(date +%s) $(CARGO) test --locked --workspace $(FEATURES) --lib
	EAGRE_RANDOM_SECONDS=600 EAGRE_TESTS_SEED=$$(date +%s) $(CARGO) test --locked --workspace $(FEATURES) --test integration -- random_queries

fmt:
	$(CARGO) fmt --all --check

lint: toolchain
	$(CARGO) clippy --locked --workspace --all-targets $(FEATURES) -- -D warnings

licences:
	@./.ci/licences

check: fmt test lint licences

bench: toolchain
	$(CARGO) bench --locked -p eagre-benches
	$(CARGO) run --locked --release -p eagre -- bench nexmark
	$(CARGO) run --locked --release -p eagre -- bench cep

demo: toolchain
	$(CARGO) run --locked --release -p eagre -- demo
