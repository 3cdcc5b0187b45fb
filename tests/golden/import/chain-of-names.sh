prev=
n=1
for p in 1001 25002 3003; do
  iptables -A INPUT -p tcp --dport $p ${prev:+-m recent --name $prev --rcheck --seconds 9} -m recent --name S$n --set -j DROP
  prev=S$n
  ((n++))
done
iptables -A INPUT -p tcp --dport 22 -m recent --name $prev --rcheck --seconds 60 -j ACCEPT
