# `make run` serves a first certificate on a bare Debian; `make test` passes the tests. Everything else is detail.

BUILD_PACKAGES = gcc make
TEST_PACKAGES  = gcc make pkg-config libssl-dev openssl procps util-linux iproute2 curl ca-certificates \
                 mount postgresql redis-server redis-sentinel haproxy pebble faketime \
                 lego certbot acme-tiny uacme dehydrated caddy bind9 bind9-dnsutils nodejs \
                 python3-certbot-dns-rfc2136 apache2-bin libapache2-mod-md \
                 prometheus shellcheck
# What `make test-clients` builds beside Debian's packages: folders of tests/foreign. And by what, beside Go, cargo and
# npm.
CLIENTS        = acme4j caddy certbot go-acme instant-acme-client lego node-acme-client
CLIENT_PACKAGES = python3-venv openjdk-17-jdk-headless maven
# And what `make acme-cert-manager-test` builds.
CERT_MANAGER   = etcd kube-apiserver cert-manager

.PHONY: run build test test-only test-release test-clients test-suites acme-rfc-conformance-test test-k6 test-faults test-sweep-million \
        fmt lint deny fuzz loadtest loadtest-unsigned docs clean
.PHONY: acme-cert-manager-test test-deploy container-dry-run kind-test

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
	cargo test --features faults
	cargo test -p chancery-jose-oracle
	tests/foreign/run-built --features faults

## The tests on the released program: optimised, without fault points (minutes more).
test-release:
	@scripts/install $(TEST_PACKAGES)
	cargo test --release

## Every client, those that no Debian package has too (built once, into a cache outside the checkout), and the table of
## docs/clients.md.
test-clients:
	@scripts/install $(TEST_PACKAGES) $(CLIENT_PACKAGES)
	@for name in $(CLIENTS); do tests/foreign/build $$name >/dev/null || exit 1; done
	rm -rf target/clients && mkdir -p target/clients
	CHANCERY_TEST_CLIENTS_RECORD=$(CURDIR)/target/clients \
	  cargo test --features faults --test it clients:: -- --include-ignored \
	  --skip the_table_is_written --skip clients::conformance::
	CHANCERY_TEST_CLIENTS_RECORD=$(CURDIR)/target/clients \
	  cargo test --features faults --test it clients::matrix::the_table_is_written -- --ignored

## What lies in deploy/, with kustomize (built once, as above).
test-deploy:
	@scripts/install $(TEST_PACKAGES)
	@tests/foreign/build kustomize >/dev/null
	cargo test --features faults --test it deploy:: -- --include-ignored

## The steps of the Dockerfile in a plain folder, and the program with the image's files alone (a release build).
container-dry-run:
	@scripts/install $(BUILD_PACKAGES) binutils curl
	deploy/container/dry-run

## Chancery and cert-manager in a fresh kind cluster, where KIND_AVAILABLE=1 says that there is a container engine.
kind-test:
	deploy/cert-manager/run

## lego (Debian's and the current one) through account, certificate, renewal and revocation, for every challenge and type
## of key, where nothing but loopback can be reached; prints the table of what it ran (minutes).
acme-rfc-conformance-test:
	@scripts/install $(TEST_PACKAGES)
	@tests/foreign/build lego >/dev/null
	cargo test --features faults --test it --no-run
	scripts/on-loopback \
	  cargo test --offline --features faults --test it clients::conformance:: -- --include-ignored --nocapture

## The scripts of loadtest/k6: held to k6's types (npm fetches them once, into a cache outside the checkout), and run
## under Node against three replicas.
test-k6:
	@scripts/install $(TEST_PACKAGES)
	@command -v npm >/dev/null || scripts/install npm
	@tests/foreign/build k6-types >/dev/null
	cargo test --features faults --test it k6:: -- --include-ignored

## cert-manager's own controllers on a Kubernetes API server, no containers (docs/cert-manager.md). What it builds from Go
## modules, a quarter of an hour, is kept in a cache outside the checkout; where that is warm, `make test` runs this too.
acme-cert-manager-test:
	@scripts/install $(TEST_PACKAGES)
	@for name in $(CERT_MANAGER); do tests/foreign/build $$name >/dev/null || exit 1; done
	cargo test --features faults --test it cert_manager:: -- --include-ignored --nocapture

## Every fault under load, and the table of docs/reliability.md (minutes). CHANCERY_TEST_FAULT_SEED=N repeats a schedule,
## CHANCERY_TEST_FAULT_ONLY=WORD runs the faults with that word in their name.
test-faults:
	@scripts/install $(TEST_PACKAGES)
	cargo test --features faults --test it faults::the_whole_run -- --ignored --nocapture

## Suites that others wrote for Pebble, against Chancery behind tests/pebble-shim, and docs/suites.md (minutes). Builds
## them first, where they are not in the cache; that needs Go 1.26 or newer.
test-suites:
	@scripts/install $(TEST_PACKAGES) git
	for name in challtestsrv instant-acme lego-e2e; do tests/foreign/build $$name || exit 1; done
	cargo build --features faults
	cargo test --features faults --test it suites::the_whole_run -- \
	  --ignored --nocapture

## Sweep a million expired orders under load: does new-order slow down? And deactivate an account with a million
## authorizations. (minutes; RATE flows a second, default 50)
test-sweep-million:
	@scripts/install $(TEST_PACKAGES)
	cargo build --release
	cargo test --release --test it -- --include-ignored --nocapture sweeper::million million_authorizations

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets --features faults -- -D warnings

## Licences, bans and sources of what is depended on (deny.toml), and known vulnerabilities where the advisory database can
## be had: it comes from the network. Builds cargo-deny once, into a cache outside the checkout.
deny:
	@scripts/deny

## Fuzz each target for a minute (needs a nightly toolchain and cargo-fuzz).
fuzz:
	cd fuzz && for target in $$(ls fuzz_targets | sed 's/\.rs$$//'); do \
	  cargo +nightly fuzz run $$target -- -max_total_time=60 || exit 1; done

## The figures of docs/performance.md: a fleet of three and the signed load generator.
loadtest:
	@scripts/install $(TEST_PACKAGES)
	cargo build --release
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
	cargo build --release
	loadtest/peers/run

## The endpoints that need no signature, against a fleet of three, by vegeta (Go builds it once, into a cache outside the
## checkout). RATE requests a second; without it, as many as 32 connections get answers to.
loadtest-unsigned:
	@scripts/install $(TEST_PACKAGES)
	cargo build --release
	loadtest/fleet.sh unsigned

## Writes the configuration reference from the code.
docs:
	cargo run -q -- check --reference > docs/configuration.md

clean:
	cargo clean
