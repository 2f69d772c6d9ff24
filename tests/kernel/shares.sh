# A file server, 10.9.0.1, and another client, 10.9.0.4, each in a namespace of its own; this machine is 10.9.0.3. nfsd is
# one per network namespace, and clients are told apart by their host's name.
for module in veth bridge; do modprobe $module || exit 4; done
ip netns add server && ip netns add other || exit 5
ip -n server link add br0 type bridge && ip -n server address add 10.9.0.1/24 dev br0 && ip -n server link set br0 up
ip -n server link set lo up && ip -n other link set lo up
ip link add share0 type veth peer name p0 netns server
ip -n other link add share0 type veth peer name p1 netns server
for port in p0 p1; do ip -n server link set $port master br0 up || exit 6; done
ip address add 10.9.0.3/24 dev share0 && ip link set share0 up
ip -n other address add 10.9.0.4/24 dev share0 && ip -n other link set share0 up
hostname node1
. "${BASH_SOURCE%/*}/serve.sh"
