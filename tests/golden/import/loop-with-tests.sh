prev=""
for p in 1001 25002 3003; do
  [ -z "$prev" ] && iptables -A INPUT -p tcp --dport $p -m recent --name S$p --set -j DROP
  if [ -n "$prev" ]; then
    iptables -A INPUT -p tcp --dport $p -m recent --name S$prev --rcheck --seconds 9 -m recent --name S$p --set -j DROP
  fi
  prev=$p
done
for door in 22/tcp 51820/udp; do
  iptables -A INPUT -p ${door#*/} --dport ${door%/*} -m recent --name S$prev --rcheck --seconds 60 -j ACCEPT
done
