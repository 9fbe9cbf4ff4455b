package member

import (
	"context"
	"errors"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/storage/mvcc"

	"github.com/sealane/sealane/internal/cluster"
)

// An etcd whose database has grown to its quota takes no writes any more, of any member,
// until somebody has made room and said so. What fills it is history, mostly.

// reclaimRest is how long a member lets go by before it makes room once more: what fills the
// database may be no history, and to write it anew takes seconds.
const reclaimRest = time.Minute

// full reports whether this member's database was found full.
func full(s *etcdserver.EtcdServer) bool {
	return slices.ContainsFunc(s.Alarms(), func(a *pb.AlarmMember) bool {
		return a.MemberID == uint64(s.MemberID()) && a.Alarm == pb.AlarmType_NOSPACE
	})
}

// reclaim makes room in this member's database, which was found full, and has etcd take
// writes again.
func (r *running) reclaim(s *etcdserver.EtcdServer) {
	ctx, cancel := context.WithTimeout(r.ctx, cluster.Patience)
	defer cancel()
	was := s.Backend().Size()
	_, err := s.Compact(ctx, &pb.CompactionRequest{Revision: s.KV().Rev(), Physical: true})
	if err == nil || errors.Is(err, mvcc.ErrCompacted) {
		err = s.Backend().Defrag()
	}
	if err == nil {
		_, err = s.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: uint64(s.MemberID()), Alarm: pb.AlarmType_NOSPACE})
	}
	if err != nil {
		r.cfg.Log.Error("cluster: etcd's database is full, and there is no room to be made", "err", err, "again", reclaimRest)
		return
	}
	r.cfg.Log.Warn("cluster: etcd's database was full: its history is gone, and it takes writes again", "bytes", s.Backend().Size(), "before", was)
}
