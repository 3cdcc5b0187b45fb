#!/bin/bash
step() {
	local port=$1 from=$2 to=$3
	iptables -A KNOCKS -p tcp --dport "$port" -m recent --rcheck --seconds 6 --name "$from" -m recent --set --name "$to" -j DROP
}
door() { iptables -A KNOCKS -p "$2" --dport "$3" -m recent --rcheck --seconds 90 --name "$1" -j ACCEPT; }

iptables -N KNOCKS
iptables -A INPUT -j KNOCKS
door c3 tcp ssh
door d2 UDP 51820
iptables -A KNOCKS -p tcp --dport 4711 -m recent --set --name c1 -j DROP
step 815 c1 c2
step 9090 c2 c3
iptables -A KNOCKS -p tcp --dport 1200 -m recent --set --name d1 -j DROP
step 31000 d1 d2
