#!/bin/sh
case "$1" in
start)
	iptables -A INPUT -p tcp --dport 3001 -m recent --name A --set -j DROP
	iptables -A INPUT -p tcp --dport 1002 -m recent --name A --rcheck --seconds 5 -m recent --name B --set -j DROP
	iptables -A INPUT -p tcp --dport 2003 -m recent --name B --rcheck --seconds 5 -m recent --name C --set -j DROP
	iptables -A FORWARD -d 10.0.0.5 -p tcp --dport 22 -m recent --name C --rcheck --seconds 60 -j ACCEPT
	iptables -A INPUT -p tcp --dport 443 -m recent --name C --rcheck --seconds 60 -j ACCEPT
	;;
stop)
	iptables -D INPUT -p tcp --dport 3001 -m recent --name A --set -j DROP
	iptables -F
	;;
esac
