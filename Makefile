# make demo    see it work, in namespaces of its own
# make test    everything that shows that it works
# make install puts the program into $(PREFIX)/bin
# The first two install what they need when root, and say what is missing when not.

PACKAGES = nftables iproute2 util-linux nmap netcat-openbsd knockd openssh-server openssh-client \
           tcpdump conntrack
PROGRAMS = nft ip unshare nmap nc knock sshd ssh tcpdump conntrack

# Kernel tests make namespaces: as root directly, otherwise as root of a user namespace.
# There, sshd cannot become the user who logs in: that one test needs root, and is named.
ROOT = $(filter 0,$(shell id -u))
INSIDE = $(if $(ROOT),,unshare --user --map-root-user --)
WITHOUT = $(if $(ROOT),,-- --skip ssh_through_the_door)

PREFIX = /usr/local

.PHONY: all install demo test packages demo-packages lint

all:
	cargo build --release

install:
	install -D -m 755 target/release/toctoc $(DESTDIR)$(PREFIX)/bin/toctoc

demo: demo-packages all
	target/release/toctoc demo

test: packages
	@$(if $(ROOT),,echo "not root: ssh_through_the_door is left out (sudo make test runs it)")
	$(INSIDE) cargo test --quiet $(WITHOUT)

lint:
	cargo fmt --check
	cargo clippy --quiet --all-targets -- --deny warnings

demo-packages:
	@scripts/need "nft ip unshare" "nftables iproute2 util-linux"

packages:
	@scripts/need "$(PROGRAMS)" "$(PACKAGES)"
