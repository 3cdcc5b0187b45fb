# the port is dropped unless the source is in the list
iptables -P INPUT ACCEPT
iptables -A INPUT -p tcp --dport 2011 -m recent --set --name one
iptables -A INPUT -p tcp --dport 40123 -m recent --rcheck --seconds 5 --name one -m recent --set --name two
iptables -A INPUT -p tcp --dport 997 -m recent --rcheck --seconds 5 --name two -m recent --set --name three
iptables -A INPUT -p tcp --dport 22 -m state --state NEW -m recent ! --rcheck --seconds 60 --name three -j DROP
