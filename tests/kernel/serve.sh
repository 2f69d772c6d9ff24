# A file server in a network namespace of this machine; nfsd is one per such namespace.
for module in nfsd nfs nfsv3 nfsv4 lockd; do modprobe $module || exit 4; done

# The kernel serves no NFSv4 from an overlay.
mkdir -p /srv/nfs && mount -t tmpfs share /srv/nfs && mkdir -p /srv/nfs/mngt /srv/nfs/bs
printf '/mngt *(rw,fsid=1,no_root_squash,no_subtree_check)\n/bs *(rw,fsid=2,no_root_squash,no_subtree_check)\n' >/etc/exports
lease() { printf '[exports]\nrootdir=/srv/nfs\n[nfsd]\nlease-time=%s\ngrace-time=%s\n' $1 $1 >/etc/nfs.conf; }
serve() { # in that namespace, with that lease time
  lease $2
  nsenter --net=/run/netns/$1 sh -c '
    umount /proc/fs/nfsd 2>/dev/null; mount -t nfsd nfsd /proc/fs/nfsd
    pidof rpcbind >/dev/null || rpcbind -w
    exportfs -ra && rpc.nfsd 4 && { pidof rpc.mountd >/dev/null || rpc.mountd; }'
}
