package server

import (
	"strings"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/cluster/member"
)

func TestJudgeCluster(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	well := member.Status{In: true, Quorum: true, Hosts: 3, Certificate: now.Add(2 * soon), Members: []member.Member{{Name: "a", Healthy: true}}}
	alone, ailing, late := well, well, well
	alone.Quorum, ailing.Problem, late.Certificate = false, "disk is full", now.Add(time.Hour)
	late.Members = []member.Member{{Name: "b"}}
	for _, c := range []struct {
		s    member.Status
		want string
	}{
		{member.Status{}, ""},
		{well, "ok cluster: 3 hosts, 1 of which keep its data"},
		{alone, "fail cluster: too few of the members that vote answer: nothing can be changed"},
		{ailing, "fail cluster: disk is full"},
		{late, "ok cluster: 3 hosts, 1 of which keep its data\nwarn cluster: member b does not answer\nwarn cluster: this host's certificate ends 2026-01-02T04:04:05Z"},
	} {
		var got []string
		for _, x := range judgeCluster(c.s, now) {
			got = append(got, x.State+" "+x.What+": "+x.Why)
		}
		if text := strings.Join(got, "\n"); text != c.want {
			t.Errorf("%s\nwant %s", text, c.want)
		}
	}
}
