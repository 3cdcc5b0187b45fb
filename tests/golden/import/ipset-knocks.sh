ipset create phase1 hash:ip timeout 5
ipset create phase2 hash:ip timeout 60
iptables -A INPUT -p tcp --dport 5005 -j SET --add-set phase1 src
iptables -A INPUT -p tcp --dport 1776 -m set --match-set phase1 src -j SET --add-set phase2 src --timeout 60 --exist
iptables -A INPUT -p tcp --dport 22 -m set --match-set phase2 src -j ACCEPT
