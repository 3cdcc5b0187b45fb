#!/bin/sh
# A router: the knocks are at its own address, the doors are those of hosts behind it.
IPT=/sbin/iptables
NAS=192.168.1.5
CAM=192.168.1.20
WAN=ppp0
$IPT -P FORWARD DROP
$IPT -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
$IPT -t nat -A POSTROUTING -s 192.168.1.0/24 -o $WAN -j MASQUERADE
# Everybody's translation; the filter asks for the knocks.
$IPT -t nat -A PREROUTING -i $WAN -p tcp --dport 2222 -j DNAT --to-destination $NAS:22
$IPT -t nat -A POSTROUTING -d $NAS -p tcp --dport 22 -j SNAT --to-source 192.168.1.1
$IPT -A INPUT -i $WAN -p tcp --dport 17001 -m recent --set --name N1 -j DROP
$IPT -A INPUT -i $WAN -p tcp --dport 28002 -m recent --rcheck --seconds 10 --name N1 -m recent --set --name N2 -j DROP
$IPT -A INPUT -i $WAN -p tcp --dport 9003 -m recent --rcheck --seconds 10 --name N2 -m recent --set --name NAS -j DROP
$IPT -A FORWARD -d $NAS -p tcp --dport 22 -m recent --rcheck --seconds 60 --name NAS -j ACCEPT
# A translation for those in the list alone.
$IPT -A INPUT -i $WAN -p tcp --dport 18001 -m recent --set --name C1 -j DROP
$IPT -A INPUT -i $WAN -p tcp --dport 7002 -m recent --rcheck --seconds 10 --name C1 -m recent --set --name CAM -j DROP
$IPT -t nat -A PREROUTING -p tcp --dport 8080 -m recent --rcheck --seconds 60 --name CAM -j DNAT --to-destination $CAM:80
$IPT -A FORWARD -p tcp --dport 80 -m recent --rcheck --seconds 60 --name CAM -j ACCEPT
# Hosts with addresses of their own, and a rule that names none.
$IPT -A FORWARD -d 198.51.100.50 -p tcp --dport 443 -m recent --rcheck --seconds 60 --name NAS -j ACCEPT
$IPT -A FORWARD -o br0 -p tcp --dport 9100 -m recent --rcheck --seconds 60 --name NAS -j ACCEPT
