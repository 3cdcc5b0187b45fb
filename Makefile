# make demo    see it work, in namespaces of its own
# make test    everything that shows that it works
# Both install what they need when root, and say what is missing when not.

PACKAGES = nftables iproute2 util-linux nmap netcat-openbsd knockd openssh-server openssh-client \
           tcpdump conntrack
PROGRAMS = nft ip unshare nmap nc knock sshd ssh tcpdump conntrack

# Kernel tests make namespaces: as root directly, otherwise as root of a user namespace.
INSIDE = $(if $(filter 0,$(shell id -u)),,unshare --user --map-root-user --)

.PHONY: all demo test packages demo-packages lint

all:
	cargo build --release

demo: demo-packages
	cargo run --quiet --release -- demo

test: packages
	$(INSIDE) cargo test --quiet

lint:
	cargo fmt --check
	cargo clippy --quiet --all-targets -- --deny warnings

demo-packages:
	@scripts/need "nft ip unshare" "nftables iproute2 util-linux"

packages:
	@scripts/need "$(PROGRAMS)" "$(PACKAGES)"
