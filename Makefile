# make demo    see it work, in namespaces of its own
# make test    everything that shows that it works
# make verify  the long versions, and what else shows it: older and newer releases of nft and iptables,
#              fuzzing, mutants, coverage (root, hours; STEPS="fuzz coverage" for some of it)
# make bench   the figures of docs/figures.md, beside other people's programs (root, half an hour;
#              SECTIONS="opening cost" for some of it)
# make install puts the programs into $(PREFIX)/bin, the systemd units below $(PREFIX)/lib, and what there is
#              to read into $(PREFIX)/share/doc/toctoc
# make deb     packages for Debian and its kin, below target/debian: toctoc, and toctoc-fleet for several hosts
# make picture docs/demo.svg, from a run of the demo
# make site    the documents as a web site with search: target/site
# make static  programs that need no libraries: target/static/toctoc and toctoc-fleet
# The first two install what they need when root, and say what is missing when not.

PACKAGES = nftables iptables iproute2 procps util-linux nmap netcat-openbsd knockd openssh-server \
           openssh-client tcpdump iputils-ping python3 systemd rsync git \
           bash zsh fish groff-base graphviz dpkg-dev lintian redis-server openssl keepalived \
           firewalld dbus-daemon ufw shorewall strace conntrack coturn \
           curl chromium firefox-esr
PROGRAMS = nft iptables-nft iptables-legacy ip tc sysctl unshare nmap nc knock sshd ssh tcpdump ping \
           setpriv python3 systemd-analyze rsync git bash zsh fish groff dot dpkg-shlibdeps lintian redis-server openssl keepalived \
           firewalld dbus-daemon ufw shorewall strace conntrack turnserver curl chromium firefox-esr

# What else is measured, and what measures and draws. letmein is no package: cargo builds it, and without
# it the figures are without it.
BENCH_PACKAGES = $(PACKAGES) fwknop-server fwknop-client gnuplot-nox
BENCH_PROGRAMS = $(PROGRAMS) fwknopd fwknop gnuplot
LETMEIN = target/letmein

# What makes the site. It is no package of every release: cargo builds it.
MDBOOK = target/mdbook

# Kernel tests make namespaces: as root directly, otherwise as root of a user namespace.
# There, some tests cannot work and are named: sshd cannot become the user who logs in, the kernel
# logs nothing, takes no large batch of rules and no BPF, and lets nobody write to the lists of iptables.
ROOT = $(filter 0,$(shell id -u))
INSIDE = $(if $(ROOT),,unshare --user --map-root-user --)
NEED_ROOT = ssh_through_the_door ssh_scp_rsync_and_git doors_and_keys_of_the_policy an_opening_is_logged_with_door_key_and_source \
            two_thousand_keys_are_applied_and_work on_iptables a_machine_starts systemd_ends_a_trial \
            the_network_comes_when a_machine_heals a_package_comes other_firewalls heal:: fall_back:: nobody_shuts_himself_out \
            signed_clients:: signed_keys:: signed_links:: signed_neighbours:: a_signed_datagram_ a_signed_one_opens
WITHOUT = $(if $(ROOT),,-- $(addprefix --skip ,$(NEED_ROOT)))

# Kernel tests mostly wait.
THREADS = 8

# All the others, also those of the fleet.
SUITES = $(patsubst tests/%.rs,--test %,$(wildcard tests/*.rs)) --test readers --test signed --test hosts --test member \
         --test program

PREFIX = /usr/local

# Which program is installed (that of the fleet stands beside it), and where zsh looks for completions.
PROGRAM = target/release/toctoc
ZSH = share/zsh/site-functions

.PHONY: all install install-base install-fleet deb static picture site demo test verify bench packages demo-packages deb-packages site-packages bench-packages lint

all:
	cargo build --release --workspace

COMPLETIONS = share/bash-completion/completions $(ZSH) share/fish/vendor_completions.d

UNITS = toctoc.service toctoc-refill.service toctoc-refill.timer toctoc-heal.service toctoc-heal.timer

# Units with the programs where they are installed.
install-units = install -d $(DESTDIR)$(PREFIX)/lib/systemd/system; \
	for unit in $(1); do \
	    sed 's,/usr/bin/,$(PREFIX)/bin/,; s,/usr/share/,$(PREFIX)/share/,' packaging/$$unit \
	        >$(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit || exit; \
	done

install: install-base install-fleet

install-base:
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/toctoc/docs docs/*.md docs/*.svg docs/protocol.json docs/signed.json
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/toctoc/docs/recipes docs/recipes/*.md
	install -m 644 README.md ARCHITECTURE.md CHANGELOG.md $(DESTDIR)$(PREFIX)/share/doc/toctoc
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/toctoc/examples examples/*.toml examples/*.py examples/*.sh
	install -d -m 700 $(DESTDIR)/etc/toctoc
	install -D -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/toctoc
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,$(COMPLETIONS))
	$(PROGRAM) man --into $(DESTDIR)$(PREFIX)/share/man
	rm -f $(DESTDIR)$(PREFIX)/share/man/man1/toctoc-fleet.1
	$(PROGRAM) completions bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/toctoc
	$(PROGRAM) completions zsh >$(DESTDIR)$(PREFIX)/$(ZSH)/_toctoc
	$(PROGRAM) completions fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/toctoc.fish
	$(call install-units,$(UNITS))

install-fleet:
	install -D -m 755 $(dir $(PROGRAM))toctoc-fleet $(DESTDIR)$(PREFIX)/bin/toctoc-fleet
	install -d $(DESTDIR)$(PREFIX)/share/man/man1
	$(PROGRAM) man fleet >$(DESTDIR)$(PREFIX)/share/man/man1/toctoc-fleet.1
	$(call install-units,toctoc-fleet.service)

deb: deb-packages all
	scripts/deb target/debian

# With a target directory of its own: the flags would make everything else be built anew. Naming the target
# keeps them away from procedural macros, which cannot be static.
TARGET = $(shell rustc -vV | sed -n 's/^host: //p')

static:
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --workspace --target $(TARGET) \
	    --target-dir target/static
	ln -sf $(TARGET)/release/toctoc $(TARGET)/release/toctoc-fleet target/static

demo: demo-packages all
	target/release/toctoc demo

test: packages
	@$(if $(ROOT),,echo "not root, so left out (sudo make test runs them): $(NEED_ROOT)")
	cargo test --quiet --workspace --doc
	RUST_TEST_THREADS=$(THREADS) $(INSIDE) cargo test --quiet --workspace --lib --bins $(SUITES) $(WITHOUT)
	RUST_TEST_THREADS=$(THREADS) $(INSIDE) scripts/kernel-tests $(addprefix --skip ,$(if $(ROOT),,$(NEED_ROOT)))

verify: packages
	@scripts/verify $(STEPS)

bench: bench-packages all $(LETMEIN)/bin/letmeind
	cargo build --release --manifest-path bench/Cargo.toml --target-dir target
	@# With a BPF file system, as systemd mounts one. What this machine has mounted stays as it is.
	unshare --mount sh -c 'mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf; exec target/release/toctoc-bench "$$@"' bench $(SECTIONS)

$(LETMEIN)/bin/letmeind:
	-cargo install --root $(LETMEIN) letmein letmeind letmeinfwd

picture: demo-packages all
	scripts/picture docs/demo.svg

site: site-packages all $(MDBOOK)/bin/mdbook
	scripts/site target/site $(MDBOOK)/bin/mdbook

$(MDBOOK)/bin/mdbook:
	cargo install --root $(MDBOOK) --version 0.5.4 --locked --no-default-features --features search mdbook

lint:
	cargo fmt --all --check
	cargo fmt --check --manifest-path bench/Cargo.toml
	cargo clippy --quiet --manifest-path bench/Cargo.toml --target-dir target --all-targets -- --deny warnings
	cargo clippy --quiet --workspace --all-targets -- --deny warnings
	cargo clippy --quiet --no-default-features --features client -- --deny warnings
	@if command -v cargo-deny >/dev/null; then cargo-deny --offline --workspace check bans licenses sources; \
	    else echo "left out: deny.toml, since cargo-deny is not installed (cargo install cargo-deny)"; fi

demo-packages:
	@scripts/need "nft ip unshare" "nftables iproute2 util-linux"

site-packages:
	@scripts/need groff groff-base

deb-packages:
	@scripts/need "dpkg-deb dpkg-shlibdeps strip" "dpkg dpkg-dev binutils"

bench-packages:
	@scripts/need "$(BENCH_PROGRAMS)" "$(BENCH_PACKAGES)"

packages:
	@scripts/need "$(PROGRAMS)" "$(PACKAGES)"
