for ipt in iptables ip6tables; do
	$ipt -A INPUT -p tcp --dport 3001 -m recent --name A --set -j DROP
	$ipt -A INPUT -p tcp --dport 1002 -m recent --name A --rcheck --seconds 5 -m recent --name B --set -j DROP
	$ipt -A INPUT -p tcp --dport 22 -m recent --name B --rcheck --seconds 60 -j ACCEPT
done
