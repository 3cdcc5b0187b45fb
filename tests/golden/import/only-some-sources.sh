#!/bin/sh
# Two conditions at once: the source has knocked, and is one of ours.
iptables -A INPUT -p tcp --dport 7021 -m recent --name A --set -j DROP
iptables -A INPUT -p tcp --dport 8022 -m recent --name A --rcheck --seconds 10 -m recent --name B --set -j DROP
iptables -A INPUT -p tcp --dport 9033 -m recent --name B --rcheck --seconds 10 -m recent --name C --set -j DROP
iptables -A INPUT -s 10.0.0.5/32 -p tcp --dport 22 -m recent --name C --rcheck --seconds 30 -j ACCEPT
iptables -A INPUT ! -s 10.0.0.0/8 -p tcp --dport 8443 -m recent --name C --rcheck --seconds 30 -j ACCEPT
