PORTS=${PORTS:-"1001 25002 3003"}
set -- $PORTS
iptables -A INPUT -p tcp --dport $1 -m recent --name S1 --set -j DROP
iptables -A INPUT -p tcp --dport $2 -m recent --name S1 --rcheck --seconds 9 -m recent --name S2 --set -j DROP
iptables -A INPUT -p tcp --dport $3 -m recent --name S2 --rcheck --seconds 9 -m recent --name S3 --set -j DROP
iptables -A INPUT -p tcp --dport 22 -m recent --name S3 --rcheck --seconds 60 -j ACCEPT
