TCP_PORTS=(25 587 993)
iptables -A INPUT -p tcp --dport 22 -m state --state NEW -m recent --set --name SSH
iptables -A INPUT -p tcp --dport 22 -m state --state NEW -m recent --update --seconds 60 --hitcount 4 --name SSH -j DROP
iptables -A INPUT -p tcp --dport 22 -j ACCEPT
for p in "${TCP_PORTS[@]}"; do iptables -A INPUT -p tcp --dport $p -j ACCEPT; done
