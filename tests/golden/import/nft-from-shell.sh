#!/bin/sh
T="inet knock"
nft add table $T
nft add chain $T in '{ type filter hook input priority 0; }'
nft add set $T a '{ type ipv4_addr; timeout 5s; }'
nft add set $T b '{ type ipv4_addr; timeout 5s; }'
nft add set $T c '{ type ipv4_addr; timeout 5m; }'
nft add rule $T in tcp dport 5001 add @a '{ ip saddr }' drop
nft add rule $T in ip saddr @a tcp dport 20702 add @b '{ ip saddr }' drop
nft add rule $T in ip saddr @b tcp dport 803 add @c '{ ip saddr }' drop
nft add rule $T in ip saddr @c udp dport 51820 accept
