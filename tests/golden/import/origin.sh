# default rules
iptables -t filter -P INPUT DROP
iptables -t filter -P FORWARD DROP
iptables -t filter -P OUTPUT ACCEPT

# allow established connections
iptables -t filter -A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT
iptables -t filter -A INPUT -f -j ACCEPT

# allow local connections
iptables -t filter -A INPUT -i lo -j ACCEPT

# port-knocking sequence for port 22
K22P=(443 2387 920 18357 50)

# init port-knocking
iptables -t filter -N KNOCK22
K22IPT='iptables -t filter -A KNOCK22 -p tcp -m state --state NEW'

# port-knocking rules
$K22IPT -m tcp --dport 22 -m recent --name KNOCKED22-${#K22P[*]} --seconds 60 --rcheck -j ACCEPT
for ((i=${#K22P[*]}; i>1; i--)); do
iptables -t filter -N KNOCK22-$i
iptables -t filter -A KNOCK22-$i -m recent --name KNOCKED22-$i --set -j RETURN
$K22IPT -m tcp --dport ${K22P[i-1]} -m recent --name KNOCKED22-$((i-1)) --remove -g KNOCK22-$i
$K22IPT -m tcp --dport ${K22P[i-2]} -m recent --name KNOCKED22-$((i-1)) --seconds 10 --rcheck -j RETURN
$K22IPT -m recent --name KNOCKED22-$((i-1)) --remove -j RETURN
$K22IPT -m tcp --dport ${K22P[0]} -m recent --name KNOCKED22-1 --set -j RETURN
iptables -t filter -A INPUT -j KNOCK22

# other firewall rules
