#!/bin/sh
# What is flushed or deleted again is no door, and no knock.
IPT="sudo -n /sbin/iptables"
$IPT -A INPUT -p tcp --dport 7101 -m recent --name OLD --set -j DROP
$IPT -A INPUT -p tcp --dport 25 -m recent --name OLD --rcheck -j ACCEPT
$IPT -F INPUT
$IPT -A INPUT -p tcp --dport 7411 -m recent --name A1 --set -j DROP
$IPT -A INPUT -p tcp --dport 8123 -m recent --name A1 --rcheck -m recent --name A2 --set -j DROP
$IPT -A INPUT -p tcp --dport 6033 -m recent --name A2 --rcheck -m recent --name A3 --set -j DROP
$IPT -A INPUT -p tcp --dport 21 -m recent --name A3 --rcheck --seconds 20 -j ACCEPT
$IPT -D INPUT -p tcp --dport 21 -m recent --name A3 --rcheck --seconds 20 -j ACCEPT
timeout 5 nice -n 10 iptables -A INPUT -p tcp --dport 22 -m recent --name A3 --rcheck --seconds 20 -j ACCEPT
iptables -t nat -F
iptables -A INPUT -j DROP
