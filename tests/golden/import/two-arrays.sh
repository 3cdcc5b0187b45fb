# two sequences, as in the classic script, and arrays that are something else
K22P=(443 2387 920 18357 50)
K8080P=(99 20001 1234)
FILES=(a b c)
TCP_PORTS=(25 587 993)
iptables -N KNOCK22
iptables -A INPUT -j KNOCK22
for ((i=${#K22P[*]}; i>1; i--)); do
iptables -N KNOCK22-$i
iptables -A KNOCK22-$i -m recent --name KNOCKED22-$i --set -j RETURN
iptables -A KNOCK22 -p tcp -m tcp --dport ${K22P[i-1]} -m recent --name KNOCKED22-$((i-1)) --remove -g KNOCK22-$i
iptables -A KNOCK22 -p tcp -m tcp --dport ${K22P[i-2]} -m recent --name KNOCKED22-$((i-1)) --seconds 10 --rcheck -j RETURN
iptables -A KNOCK22 -p tcp -m recent --name KNOCKED22-$((i-1)) --remove -j RETURN
done
iptables -A KNOCK22 -p tcp --dport ${K22P[0]} -m recent --name KNOCKED22-1 --set -j RETURN
iptables -I KNOCK22 -p tcp --dport 22 -m recent --name KNOCKED22-${#K22P[*]} --seconds 60 --rcheck -j ACCEPT
iptables -A INPUT -p tcp --dport ${K8080P[0]} -m recent --set --name W0 -j DROP
for n in 1 2; do
	iptables -A INPUT -p tcp --dport ${K8080P[$n]} -m recent --rcheck --name W$((n - 1)) -m recent --set --name W$n -j DROP
done
iptables -A INPUT -p tcp --dport 8080 -m recent --name W2 --seconds 90 --rcheck -j ACCEPT
