iptables -A INPUT -p tcp --dport 1000:1010 -m recent --set --name X -j DROP
iptables -A INPUT -p tcp --dport 22 -m recent --rcheck --seconds 60 --name X -j ACCEPT
