#!/bin/sh
iptables -A INPUT -i lo -j ACCEPT
iptables -A INPUT -p tcp --dport 80 -j ACCEPT
iptables -A INPUT -p tcp --dport 8205 -m recent --name k1 --set -j DROP
iptables -A INPUT -p tcp --dport 7402 -m recent --name k1 --rcheck --seconds 15 -m recent --name k2 --set -j DROP
iptables -A INPUT -p udp --dport 9103 -m recent --name k2 --rcheck --seconds 12 -m recent --name k3 --set -j DROP
iptables -A INPUT -p tcp --dport 22 -m recent --rcheck --seconds 45 --name k3 -j ACCEPT
iptables -A INPUT -p tcp --dport 22 -j DROP
