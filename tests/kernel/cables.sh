# Two cables from this machine's eth0 and eth1 to a neighbour's, through a namespace where they can be cut: a bridge
# would swallow LACP's packets. The neighbour has the two in a bond, as a switch would, and is another node, 192.168.93.4, and the gateway, 192.168.93.1.
for module in bonding veth act_mirred cls_matchall bridge 8021q tun; do modprobe $module || exit 4; done
ip netns add cable && ip netns add neighbour || exit 5
for i in 0 1; do
  ip link add eth$i type veth peer name a$i netns cable
  ip -n neighbour link add eth$i type veth peer name b$i netns cable
  for pair in "a$i b$i" "b$i a$i"; do
    set -- $pair
    ip -n cable link set $1 mtu 9000 up
    ip netns exec cable tc qdisc add dev $1 clsact
    ip netns exec cable tc filter add dev $1 ingress matchall action mirred egress redirect dev $2
  done
done
ip -n neighbour link set lo up
ip -n neighbour link add bond0 type bond mode 802.3ad miimon 100 lacp_rate fast
for i in 0 1; do ip -n neighbour link set eth$i mtu 9000 down master bond0 && ip -n neighbour link set eth$i up; done
ip -n neighbour link set bond0 mtu 9000 up && ip -n neighbour address add 192.168.93.4/24 dev bond0 || exit 6
ip -n neighbour address add 192.168.93.1/24 dev bond0 || exit 7
# And two more, without a switch in between: the neighbour is 10.7.0.1 there.
ip -n neighbour link add br7 type bridge && ip -n neighbour address add 10.7.0.1/24 dev br7 && ip -n neighbour link set br7 up
for i in 2 3; do
  ip link add eth$i type veth peer name c$i netns neighbour && ip -n neighbour link set c$i master br7 up || exit 8
done
