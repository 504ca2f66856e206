# One command for each thing that one does with a fresh clone. `make` alone lists them.
CARGO ?= cargo
# All targets of all rooms in one go, always: the same features everywhere, so nothing is built twice.
BUILD = $(CARGO) build --locked --workspace --all-targets
NEXTEST := $(shell $(CARGO) nextest --version 2>/dev/null)

.PHONY: help test test-random fmt lint check bench demo licences

help:
	@echo 'make test      all tests (what CI runs)'
	@echo 'make test-random  the laws with another seed, and ten minutes of random queries against the batch answer'
	@echo 'make check     test + format + lints + licences'
	@echo 'make bench     the micro-benchmarks and Nexmark, as benches/README.md tells'
	@echo 'make demo      eagre on real data'

# A C compiler builds zstd and the allocator; cargo says so badly.
toolchain:
	@command -v $(CARGO) >/dev/null || { echo 'cargo is missing: install Rust from https://rustup.rs'; exit 1; }
	@command -v cc >/dev/null || { echo 'a C compiler is missing: apt-get install gcc (or clang)'; exit 1; }

test: toolchain
	$(BUILD)
ifneq ($(NEXTEST),)
	$(CARGO) nextest run --locked --workspace
else
	@echo 'cargo-nextest is not installed; cargo test runs the same tests (`cargo install cargo-nextest` makes it quicker)'
	$(CARGO) test --locked --workspace --lib --bins --tests
endif
	$(CARGO) test --locked --workspace --doc

test-random: toolchain
	$(BUILD)
	PROPTEST_RNG_SEED=$$(date +%s) $(CARGO) test --locked --workspace --lib
	EAGRE_RANDOM_SECONDS=600 EAGRE_TESTS_SEED=$$(date +%s) $(CARGO) test --locked --workspace --test integration -- random_queries

fmt:
	$(CARGO) fmt --all --check

lint: toolchain
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

licences:
	@./.ci/licences

check: fmt test lint licences

bench: toolchain
	$(CARGO) bench --locked -p eagre-benches
	$(CARGO) run --locked --release -p eagre -- bench nexmark

demo: toolchain
	$(CARGO) run --locked --release -p eagre -- demo
