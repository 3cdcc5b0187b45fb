iptables -A INPUT -p tcp --dport 1111 -m recent --set --name K1 -j DROP
iptables -A INPUT -p tcp --dport 20222 -m recent --rcheck --seconds 5 --name K1 -m recent --set --name K2 -j DROP
iptables -t nat -A PREROUTING -p tcp --dport 2022 -m recent --rcheck --seconds 60 --name K2 -j DNAT --to-destination 10.0.0.5:22
