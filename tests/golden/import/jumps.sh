# two knocks, a chain each
iptables -F; iptables -X
iptables -N KNOCK1; iptables -N KNOCK2; iptables -N KNOCK3
iptables -A INPUT -p tcp --dport 7481 -j KNOCK1
iptables -A INPUT -p tcp --dport 3119 -j KNOCK2
iptables -A INPUT -p tcp --dport 666 -m state --state NEW -m recent \
    --seconds 10 --rcheck --name KNOCKED -j ACCEPT
iptables -A INPUT -p tcp --dport 666 -m state --state NEW -j DROP
iptables -A KNOCK1 -m recent --set --name SEENFIRST
iptables -A KNOCK1 -m recent --remove --name KNOCKED
iptables -A KNOCK1 -j REJECT
iptables -A KNOCK2 -m recent --rcheck --name SEENFIRST --seconds 5 -j KNOCK3
iptables -A KNOCK2 -m recent --remove --name SEENFIRST
iptables -A KNOCK3 -m recent --set --name KNOCKED
iptables -A KNOCK3 -j REJECT
