iptables -A INPUT -p tcp --dport 1111 -m recent --set --name K1 -j DROP
iptables -A INPUT -p tcp --dport 20222 -m recent --rcheck --seconds 5 --name K1 -m recent --set --name OK -j DROP
iptables -A INPUT -p udp --dport 3333 -m recent --set --name J1 -j DROP
iptables -A INPUT -p udp --dport 404 -m recent --rcheck --seconds 7 --name J1 -m recent --set --name OK -j DROP
iptables -A INPUT -p tcp --dport 22 -m recent --rcheck --seconds 60 --name OK -j ACCEPT
iptables -A INPUT -p tcp -m multiport --dports 80,443 -m recent --rcheck --seconds 60 --name OK -j ACCEPT
