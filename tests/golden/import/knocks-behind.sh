# All of it on the way through: the knocks are for the host behind as well.
iptables -A FORWARD -d 198.51.100.50 -p tcp --dport 15001 -m recent --set --name S1 -j DROP
iptables -A FORWARD -d 198.51.100.50 -p tcp --dport 26002 -m recent --rcheck --seconds 10 --name S1 -m recent --set --name S2 -j DROP
iptables -A FORWARD -d 198.51.100.50 -p tcp --dport 22 -m recent --rcheck --seconds 60 --name S2 -j ACCEPT
# A door of this host beside it.
iptables -A INPUT -p tcp --dport 443 -m recent --rcheck --seconds 60 --name S2 -j ACCEPT
