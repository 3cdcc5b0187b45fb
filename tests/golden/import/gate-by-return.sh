#!/bin/bash
EXT="eth0"
iptables -N KNOCK
iptables -A INPUT -i $EXT -p tcp -m state --state NEW -j KNOCK
iptables -A KNOCK -p tcp --dport 5000 -m recent --name A --set -j RETURN
iptables -A KNOCK -m recent ! --rcheck --seconds 10 --name A -j RETURN
iptables -A KNOCK -p tcp --dport 6001 -m recent --name B --set -j RETURN
iptables -A KNOCK -m recent ! --rcheck --seconds 10 --name B -j RETURN
iptables -A KNOCK -p tcp --dport 22 -j ACCEPT
