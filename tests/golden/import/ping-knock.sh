iptables -A INPUT -p icmp --icmp-type echo-request -m length --length 128 -m recent --set --name PING -j ACCEPT
iptables -A INPUT -p tcp --dport 22 -m recent --rcheck --seconds 60 --name PING -j ACCEPT
