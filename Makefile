# make demo    see it work, in namespaces of its own
# make test    everything that shows that it works
# Both install what they need when root, and say what is missing when not.

PACKAGES = nftables iproute2 util-linux nmap netcat-openbsd knockd openssh-server openssh-client \
           tcpdump conntrack
PROGRAMS = nft ip unshare nmap nc knock sshd ssh tcpdump conntrack

# Kernel tests make namespaces: as root directly, otherwise as root of a user namespace.
# There, sshd cannot become the user who logs in: that one test needs root, and is named.
ROOT = $(filter 0,$(shell id -u))
INSIDE = $(if $(ROOT),,unshare --user --map-root-user --)
WITHOUT = $(if $(ROOT),,-- --skip ssh_through_the_door)

.PHONY: all demo test packages demo-packages lint

all:
	cargo build --release

demo: demo-packages
	cargo run --quiet --release -- demo

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
