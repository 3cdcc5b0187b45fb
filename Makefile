# make demo    see it work, in namespaces of its own
# make test    everything that shows that it works
# make verify  the kernel tests with the nft and iptables of older and newer releases (root, half an hour)
# make install puts the program into $(PREFIX)/bin
# The first two install what they need when root, and say what is missing when not.

PACKAGES = nftables iptables iproute2 procps util-linux nmap netcat-openbsd knockd openssh-server \
           openssh-client tcpdump iputils-ping
PROGRAMS = nft iptables-nft iptables-legacy ip sysctl unshare nmap nc knock sshd ssh tcpdump ping

# Kernel tests make namespaces: as root directly, otherwise as root of a user namespace.
# There, some tests cannot work and are named: sshd cannot become the user who logs in, the kernel
# logs nothing, takes no large batch of rules, and lets nobody write to the lists of iptables.
ROOT = $(filter 0,$(shell id -u))
INSIDE = $(if $(ROOT),,unshare --user --map-root-user --)
NEED_ROOT = ssh_through_the_door an_opening_is_logged_with_door_key_and_source \
            two_thousand_keys_are_applied_and_work on_iptables
WITHOUT = $(if $(ROOT),,-- $(addprefix --skip ,$(NEED_ROOT)))

PREFIX = /usr/local

# nft 0.9.8, 1.0.6, 1.1.3; iptables 1.8.7, 1.8.9, 1.8.11.
RELEASES = bullseye bookworm trixie
# Programs in another root share no lock with a test, so the one about the lock is left out.
# nft 0.9.8 refuses a set of another type under the name of an old one, and leaves all as it was.
WITHOUT_bullseye = --skip apply_heals_a_table_in_odd_shapes

.PHONY: all install demo test verify packages demo-packages lint

all:
	cargo build --release

install:
	install -D -m 755 target/release/toctoc $(DESTDIR)$(PREFIX)/bin/toctoc

demo: demo-packages all
	target/release/toctoc demo

test: packages
	@$(if $(ROOT),,echo "not root, so left out (sudo make test runs them): $(NEED_ROOT)")
	$(INSIDE) cargo test --quiet $(WITHOUT)

verify: $(addprefix verify-,$(RELEASES))

verify-%: packages
	@scripts/need "debootstrap mountpoint" "debootstrap util-linux"
	@scripts/release $* $(CURDIR)/target/releases/$*
	RELEASE=$(CURDIR)/target/releases/$* cargo test --quiet --test kernel -- --skip a_slow_move_prolongs_no_grant $(WITHOUT_$*)
	@umount $(CURDIR)/target/releases/$*/proc

lint:
	cargo fmt --check
	cargo clippy --quiet --all-targets -- --deny warnings

demo-packages:
	@scripts/need "nft ip unshare" "nftables iproute2 util-linux"

packages:
	@scripts/need "$(PROGRAMS)" "$(PACKAGES)"
