PORTS="5511 30021 867 41999"
n=0
last=none
for p in $PORTS; do
	n=$((n+1))
	if [ $n -eq 1 ]; then
		iptables -A INPUT -p tcp --dport $p -m recent --set --name STEP$n -j DROP
	else
		iptables -A INPUT -p tcp --dport $p -m recent --rcheck --seconds 20 --name STEP$((n-1)) -m recent --set --name STEP$n -j DROP
	fi
done
iptables -A INPUT -p tcp -m multiport --dports 22,443 -m recent --rcheck --seconds 120 --name STEP$n -j ACCEPT
