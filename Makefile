# `make run` serves a first certificate on a bare Debian; `make test` passes the tests. Everything else is detail.

BUILD_PACKAGES = gcc make
TEST_PACKAGES  = gcc make pkg-config libssl-dev openssl procps util-linux iproute2 curl ca-certificates \
                 mount postgresql redis-server redis-sentinel haproxy pebble faketime \
                 lego certbot acme-tiny uacme dehydrated caddy bind9 bind9-dnsutils
# What `make test-clients` builds beside Debian's packages: the folders of tests/foreign.
CLIENTS        = caddy lego

.PHONY: run build test test-only test-clients test-faults test-sweep-million fmt lint fuzz loadtest docs clean

## Build, and serve the embedded server for names under .localhost (no root, no DNS).
run:
	@scripts/install $(BUILD_PACKAGES)
	cargo run -- serve --local

## The program with optimisation: target/release/chancery.
build:
	@scripts/install $(BUILD_PACKAGES)
	cargo build --release

## Install what the tests need, then run every test on both stores.
test:
	@scripts/install $(TEST_PACKAGES)
	$(MAKE) test-only

test-only:
	cargo test --workspace --features faults

## Every client, those that no Debian package has too (built once, into a cache outside the checkout), and the table of
## docs/clients.md.
test-clients:
	@scripts/install $(TEST_PACKAGES)
	@for name in $(CLIENTS); do tests/foreign/build $$name >/dev/null || exit 1; done
	rm -rf target/clients && mkdir -p target/clients
	CHANCERY_TEST_FOREIGN=required CHANCERY_TEST_CLIENTS_RECORD=$(CURDIR)/target/clients \
	  cargo test --workspace --features faults --test it clients:: -- --include-ignored --skip the_table_is_written
	CHANCERY_TEST_CLIENTS_RECORD=$(CURDIR)/target/clients \
	  cargo test --workspace --features faults --test it clients::matrix::the_table_is_written -- --ignored

## Every fault under load, and the table of docs/reliability.md (minutes). CHANCERY_TEST_FAULT_SEED=N repeats a schedule,
## CHANCERY_TEST_FAULT_ONLY=WORD runs the faults with that word in their name.
test-faults:
	@scripts/install $(TEST_PACKAGES)
	cargo test --workspace --features faults --test it faults::the_whole_run -- --ignored --nocapture

## Sweep a million expired orders under load: does new-order slow down? (minutes; RATE flows a second, default 50)
test-sweep-million:
	@scripts/install $(TEST_PACKAGES)
	cargo build --release --workspace
	cargo test --release --workspace --test it sweeper::million -- --include-ignored --nocapture

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets --features faults -- -D warnings

## Fuzz each target for a minute (needs a nightly toolchain and cargo-fuzz).
fuzz:
	cd fuzz && for target in $$(ls fuzz_targets | sed 's/\.rs$$//'); do \
	  cargo +nightly fuzz run $$target -- -max_total_time=60 || exit 1; done

## The figures of docs/performance.md: a fleet of three and the signed load generator.
loadtest:
	@scripts/install $(TEST_PACKAGES)
	cargo build --release --workspace
	loadtest/fleet.sh run --challenge http-01 --accounts 16 --mode closed --concurrency 24 --warmup 5 --duration 15 \
	  --require-cpu-ms 5
	loadtest/fleet.sh run --challenge http-01 --accounts 32 --mode open --rate 200 --warmup 5 --duration 60 \
	  --require-rate 199 --require-p99-finalize 250
	loadtest/fleet.sh nonces --connections 32 --duration 10 --require-rate 20000

## Chancery and comparable servers by turns, and two instances of each: the tables of docs/comparison.md. As root, on a quiet
## machine; about ten minutes, and the first time some twenty more for building the others.
.PHONY: bench-peers
bench-peers:
	@scripts/install $(TEST_PACKAGES)
	cargo build --release --workspace
	loadtest/peers/run

## Writes the configuration reference from the code.
docs:
	cargo run -q -- check --reference > docs/configuration.md

clean:
	cargo clean
