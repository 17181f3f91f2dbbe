# `make run` tries the bridge out, `make check` proves it; `make help` lists the rest.

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/cascade-hsm-bridge
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSCONFDIR ?= /etc/cascade-hsm-bridge
INSTALL ?= install

# rustup's own directory serves where PATH lacks it.
CARGO ?= $(shell command -v cargo || echo $(HOME)/.cargo/bin/cargo)
PROGRAM = cascade-hsm-bridge
BINARY = $(or $(CARGO_TARGET_DIR),target)/release/$(PROGRAM)

# The oldest Rust that builds it.
RUST := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

# Runs the tests on several modules.
INTEROP = $(CARGO) run -q --locked --manifest-path tests/interop/Cargo.toml --

# Where `make run` listens.
ADDR ?= 127.0.0.1:5696

# Tools, or files where what is needed is a library, each with the Debian packages that bring it: to build and run the program; for the
# tests, and to build the module kryoptic, on which they are run as well; and for the other modules of `make interop`, with the tools of other
# signers, whose keys are used there.
NEEDED = softhsm2-util:softhsm2 pkcs11-tool:opensc openssl:openssl cc:gcc+libc6-dev
CHECK_NEEDED = mandoc:mandoc python3:python3 script:bsdutils valgrind:valgrind /usr/sbin/haproxy:haproxy \
	pkg-config:pkg-config /usr/include/openssl/ssl.h:libssl-dev /usr/include/sqlite3.h:libsqlite3-dev \
	/usr/lib*/llvm*/lib/libclang[-.][s0-9]*:libclang-dev
INTEROP_NEEDED = p11-kit:p11-kit /usr/lib/*/pkcs11/p11-kit-client.so:p11-kit-modules pkcsslotd:opencryptoki unshare:util-linux swtpm:swtpm \
	dbus-daemon:dbus-daemon tpm2-abrmd:tpm2-abrmd tpm2_getrandom:tpm2-tools tpm2_ptool:libtpm2-pkcs11-tools \
	/usr/lib/*/pkcs11/libtpm2_pkcs11.so:libtpm2-pkcs11-1 /usr/lib/*/libtss2-tcti-tabrmd.so.0:libtss2-tcti-tabrmd0 \
	ods-hsmutil:libhsm-bin /usr/sbin/keymgr:knot

# The packages that this machine lacks of such a list.
missing = $(strip $(foreach need,$(1),$(shell set -- $(firstword $(subst :, ,$(need))); \
	command -v "$$1" >/dev/null || [ -e "$$1" ] || echo $(subst +, ,$(lastword $(subst :, ,$(need)))))))

# Installs the packages that are missing of such a list.
define install-missing
@set -e; missing='$(call missing,$(1))'; [ -n "$$missing" ] || exit 0; \
command -v apt-get >/dev/null || { echo "this system has no apt-get; install what Debian calls: $$missing" >&2; exit 1; }; \
as_root=; [ "$$(id -u)" = 0 ] || as_root=sudo; \
[ -z "$$as_root" ] || command -v sudo >/dev/null || { echo "as root, run: apt-get install $$missing" >&2; exit 1; }; \
set -x; $$as_root apt-get update -q; \
$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing
endef

.PHONY: all run check test interop kryoptic lint deps check-deps interop-deps conformance smoke fuzz soak bench bench-growth bench-hostile \
	bench-callgrind bench-check install uninstall clean help
.NOTPARALLEL:

all:
	$(CARGO) build --release --locked

run: deps all
	@bash conf/try.sh $(BINARY) $(ADDR)

check: deps check-deps lint smoke bench-check test

# On SoftHSM and on kryoptic. The program's own tests on SoftHSM come last, so that their result closes the output. Most tests wait for
# something most of the time, so there are more at once than processors.
test: export RUST_TEST_THREADS ?= $(shell expr 2 \* $$(nproc))
test: kryoptic
	cd tests/published-client && $(CARGO) test --locked
	cd tests/faulty-module && $(CARGO) test --locked
	$(INTEROP) kryoptic
	$(CARGO) test --locked --no-fail-fast

# The tests on the modules M, else on each that can be brought up here; of the tests, those whose names hold T.
interop: deps check-deps interop-deps kryoptic
	$(INTEROP) $(if $(T),--only $(T)) $(M)

kryoptic:
	cd tests/kryoptic && $(CARGO) build --locked -p kryoptic

# Mixed clients and faults injected at random for T seconds (S repeats a run's choices), then the accounts.
soak:
	cd tests/faulty-module && $(CARGO) build --locked
	SOAK_SECONDS=$(or $(T),120) $(if $(S),SOAK_SEED=$(S)) $(CARGO) test --locked --test soak

# How fast it is, and how much it takes, beside the token alone and TLS alone (tests/bench/README.md).
BENCH = cd tests/bench && CASCADE_HSM_BRIDGE=$(abspath $(BINARY)) $(CARGO) run --quiet --release --locked --

bench: deps all
	$(BENCH) --json result.json $(PARTS)

bench-growth: deps all
	$(BENCH) --json growth.json growth

# The time of a signature alone and among hostile peers, T seconds each by turns, and the target for their ratio.
bench-hostile: all
	$(BENCH) --pace $(or $(T),9),1000 hostile

# Instructions for a request, compared with tests/bench/instructions; RECORD=1 writes that anew.
bench-callgrind: deps
	$(BENCH) instructions $(if $(RECORD),--record)

# What repeats exactly of all this: allocations and instructions for a request.
bench-check: deps
	cd tests/bench && $(CARGO) test --release --locked
	$(BENCH) instructions

conformance:
	$(CARGO) test --locked --test conformance -- --nocapture

# Every fuzz target for ten seconds, where there is what libFuzzer is built with.
smoke:
	@if command -v c++ >/dev/null; then CARGO=$(CARGO) LINT=1 bash tests/fuzz/run 10; \
	else echo 'fuzz: left out, as there is no C++ compiler (Debian: g++)'; fi

# Fuzz target T for S seconds.
fuzz:
	@CARGO=$(CARGO) KEEP=1 bash tests/fuzz/run $(or $(S),600) $(or $(T),front_end)

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --document-private-items
	cd tests/published-client && $(CARGO) fmt --check
	cd tests/published-client && $(CARGO) clippy --locked --all-targets -- -D warnings
	cd tests/interop && $(CARGO) fmt --check
	cd tests/interop && $(CARGO) clippy --locked --all-targets -- -D warnings
	cd tests/kryoptic && $(CARGO) fmt --check
	cd tests/faulty-module && $(CARGO) fmt --check
	cd tests/faulty-module && $(CARGO) clippy --locked --all-targets -- -D warnings
	cd tests/bench && $(CARGO) fmt --check
	cd tests/bench && $(CARGO) clippy --release --locked --all-targets -- -D warnings
	cd tests/fuzz && $(CARGO) fmt --check
	cd tests/fuzz/fake-module && $(CARGO) fmt --check
	cd tests/fuzz/fake-module && $(CARGO) clippy --locked --release -- -D warnings

deps:
	@command -v $(CARGO) >/dev/null || { echo 'cargo is missing: install Rust $(RUST) or later, see https://rustup.rs' >&2; exit 1; }
	@version=$$($(CARGO) --version | cut -d ' ' -f 2); \
	[ "$$(printf '%s\n' $(RUST) "$$version" | sort -V | head -n 1)" = $(RUST) ] || \
		{ echo "$(CARGO) is version $$version: install Rust $(RUST) or later, see https://rustup.rs" >&2; exit 1; }
	$(call install-missing,$(NEEDED))

check-deps:
	$(call install-missing,$(CHECK_NEEDED))

interop-deps:
	$(call install-missing,$(INTEROP_NEEDED))

# Installs what `make all` has built; an existing configuration is left as it is.
install:
	$(INSTALL) -d -m 755 $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man5 \
		$(DESTDIR)$(MANDIR)/man7
	$(INSTALL) -d -m 755 $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSCONFDIR) $(DESTDIR)$(DOCDIR)
	$(INSTALL) -m 755 $(BINARY) $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 644 man/$(PROGRAM).1 $(DESTDIR)$(MANDIR)/man1
	$(INSTALL) -m 644 man/$(PROGRAM)-config.toml.5 $(DESTDIR)$(MANDIR)/man5
	$(INSTALL) -m 644 man/$(PROGRAM)-*.7 $(DESTDIR)$(MANDIR)/man7
	sed 's|^ExecStart=$(PROGRAM) |ExecStart=$(BINDIR)/$(PROGRAM) |' conf/$(PROGRAM).service \
		>$(DESTDIR)$(UNITDIR)/$(PROGRAM).service
	chmod 644 $(DESTDIR)$(UNITDIR)/$(PROGRAM).service
	$(INSTALL) -m 644 conf/$(PROGRAM).socket $(DESTDIR)$(UNITDIR)
	$(INSTALL) -m 644 LICENSE README.md CHANGELOG.md SECURITY.md conf/haproxy.cfg $(DESTDIR)$(DOCDIR)
	$(INSTALL) -m 644 conf/config.toml $(DESTDIR)$(SYSCONFDIR)/config.toml.sample
	[ -e $(DESTDIR)$(SYSCONFDIR)/config.toml ] || \
		$(INSTALL) -m 644 conf/config.toml $(DESTDIR)$(SYSCONFDIR)/config.toml

# Leaves the configuration, as what is in it may be needed again.
uninstall:
	rm -f $(DESTDIR)$(BINDIR)/$(PROGRAM)
	rm -f $(DESTDIR)$(MANDIR)/man1/$(PROGRAM).1 $(DESTDIR)$(MANDIR)/man5/$(PROGRAM)-config.toml.5
	rm -f $(DESTDIR)$(MANDIR)/man7/$(PROGRAM)-*.7
	rm -f $(DESTDIR)$(UNITDIR)/$(PROGRAM).service $(DESTDIR)$(UNITDIR)/$(PROGRAM).socket
	rm -f $(DESTDIR)$(SYSCONFDIR)/config.toml.sample
	rm -rf $(DESTDIR)$(DOCDIR)

# The token and the certificate of `make run` go too.
clean:
	$(CARGO) clean
	cd tests/published-client && $(CARGO) clean
	cd tests/faulty-module && $(CARGO) clean
	cd tests/bench && $(CARGO) clean
	cd tests/interop && $(CARGO) clean
	cd tests/kryoptic && $(CARGO) clean
	cd tests/fuzz && $(CARGO) clean
	cd tests/fuzz/fake-module && $(CARGO) clean
	rm -rf tests/fuzz/corpus
	rm -rf run

help:
	@echo 'make              build the release binary ($(BINARY))'
	@echo 'make run          install what is missing, make a token in ./run, serve it on ADDR=$(ADDR)'
	@echo 'make check        install what is missing, lint, fuzz for a minute, run all tests'
	@echo 'make test         run all tests'
	@echo 'make interop      M= T=: install what is missing, run the tests on every PKCS#11 module (M names some, T some tests), print a table'
	@echo 'make fuzz         T=front_end S=600: fuzz target T for S seconds (tests/fuzz/README.md)'
	@echo 'make lint         formatting, clippy and rustdoc, warnings denied'
	@echo 'make soak         T=120 S=: mixed clients and random faults for T seconds, then the accounts; S is the seed'
	@echo 'make bench        PARTS=: what a request costs beside the token alone and TLS alone, and the targets (tests/bench/README.md)'
	@echo 'make bench-growth   how throughput, latency and memory grow'
	@echo 'make bench-callgrind  RECORD=: instructions for a request, beside those recorded'
	@echo 'make bench-hostile  T=9: p99 of a signature alone and among hostile peers'
	@echo 'make conformance  replay the OASIS test cases, where they are at hand (SHARED=../shared)'
	@echo 'make deps         install the packages that run and check need (Debian)'
	@echo 'make install      DESTDIR= PREFIX=$(PREFIX): binary, manual pages, units, configuration'
	@echo 'make uninstall    the reverse, but for the configuration'
	@echo 'make clean        remove what was built, and ./run'
