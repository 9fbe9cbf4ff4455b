package runtimetest

import (
	"fmt"

	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/runtime"
)

// questions are in the order in which they are asked: after the last one there are
// no answers.
var questions = []question{
	{"a container is stopped, runs, is stopped, and runs elsewhere", func(s *suite) {
		at := s.run(s.name)
		s.Keeper.Stop(s.T, s.name)
		if c := s.finds(s.guest(s.name), runtime.Stopped, s.name); c.Guest != at.Guest {
			s.Errorf("stopped: %+v, was %+v", c.Guest, at.Guest)
		}
		s.Keeper.Start(s.T, s.name)
		if c := s.finds(s.guest(s.name), runtime.Running, s.name); c.Guest != at.Guest || c.PID == at.PID {
			s.Errorf("started again: %+v, was %+v", c, at)
		}
	}},
	{"a container is found by its ID, or by the begin of it", func(s *suite) {
		at := s.run(s.name)
		id := at.Guest.ID
		for _, g := range []model.Guest{s.guest(id), s.guest(s.begin(id)), {Runtime: s.Runtime, Name: s.name, ID: id}, {Runtime: s.Runtime, Name: "another", ID: id}} {
			if c := s.finds(g, runtime.Running, s.name); c != at {
				s.Errorf("%+v: %+v, want %+v", g, c, at)
			}
		}
	}},
	{"who has an ID is not found by the begin of it", func(s *suite) {
		id := s.create(s.name)
		s.gone(model.Guest{Runtime: s.Runtime, Name: s.name, ID: s.begin(id)})
	}},
	{"a name is more than the begin of an ID, and a whole ID found by what it is", func(s *suite) {
		id := s.create(s.name)
		begin := s.begin(id)
		if len(begin) == 1 {
			begin = id[:2] // what Docker takes for a name
		}
		other := s.create(begin)
		if c := s.finds(s.guest(begin), runtime.Stopped, begin); c.Guest.ID != other {
			s.Errorf("%s: ID %s, want %s", begin, c.Guest.ID, other)
		}
		s.finds(s.guest(id), runtime.Stopped, s.name)
		s.remove(begin)
	}},
	{"who is awaited is found by a name or a whole ID", func(s *suite) {
		g := s.guest(s.name)
		g.Awaited = true
		s.gone(g)
		id := s.run(s.name).Guest.ID
		s.finds(g, runtime.Running, s.name)
		g.Name = id
		s.finds(g, runtime.Running, s.name)
		g.Name = s.begin(id)
		s.gone(g)
		g.ID = id
		s.finds(g, runtime.Running, s.name)
	}},
	{"a container keeps its ID under another name", func(s *suite) {
		at, site := s.run(s.name), s.name+"-site"
		s.Keeper.Rename(s.T, s.name, site)
		s.gone(s.guest(s.name))
		s.ids[at.Guest.ID] = site
		for _, g := range []model.Guest{s.guest(site), at.Guest} {
			if c := s.finds(g, runtime.Running, site); c.Guest.ID != at.Guest.ID || c.NetNS != at.NetNS || c.Inode != at.Inode {
				s.Errorf("renamed: %+v, was %+v", c, at)
			}
		}
		if id := s.create(s.name); id == at.Guest.ID { // of that name there is another now
			s.Errorf("two have ID %s", id)
		}
		s.finds(at.Guest, runtime.Running, site)
	}},
	{"a container that is removed is gone, also when there is another of its name", func(s *suite) {
		was := s.run(s.name).Guest
		s.remove(s.name)
		s.gone(was)
		s.gone(s.guest(s.name))
		s.gone(s.guest(was.ID))
		if c := s.run(s.name); c.Guest.ID == was.ID {
			s.Errorf("the other has ID %s too", was.ID)
		}
		s.gone(was)
		was.Awaited = true
		s.gone(was)
	}},
	{"a process is found by its number while it runs", func(s *suite) {
		at := s.run(s.name)
		number := fmt.Sprint(at.PID)
		g := model.Guest{Runtime: model.RuntimePID, Name: number}
		c := s.finds(g, runtime.Running, number)
		if c.PID != at.PID || c.Inode != at.Inode {
			s.Errorf("%+v, want %+v", c, at)
		}
		s.finds(c.Guest, runtime.Running, number)
		s.Keeper.Stop(s.T, s.name)
		s.gone(c.Guest)
		s.gone(g)
		s.named(number, "", false)
	}},
	{"a namespace is found by its path, which is there for good", func(s *suite) {
		at := s.run(s.name)
		g := model.Guest{Runtime: model.RuntimeNetNS, Name: at.NetNS}
		c := s.finds(g, runtime.Running, at.NetNS)
		if c.PID != at.PID || c.Inode != at.Inode || c.Guest.ID != at.NetNS {
			s.Errorf("%+v, want %+v", c, at)
		}
		s.named(at.NetNS, "netns:"+at.NetNS+"=running", false)
		s.Keeper.Stop(s.T, s.name)
		s.finds(g, runtime.Stopped, at.NetNS)
		s.named(at.NetNS, "", false)
	}},
	{"a name means containers of several runtimes, or none", func(s *suite) {
		ref := string(s.Runtime) + ":" + s.name
		s.named(s.name, "", false)
		id := s.run(s.name).Guest.ID
		s.named(s.name, ref+"=running", false)
		s.named(s.begin(id), ref+"=running", false)
		s.Keeper.Twin(s.T, s.name)
		if c := s.finds(model.Guest{Runtime: model.RuntimeLXC, Name: s.name}, runtime.Stopped, s.name); c.Guest.ID != s.name {
			s.Errorf("LXC has no IDs but names, not %s", c.Guest.ID)
		}
		s.gone(model.Guest{Runtime: model.RuntimeLXC, Name: s.name[:1]})
		s.named(s.name, ref+"=running lxc:"+s.name+"=stopped", false)
		s.Keeper.Stop(s.T, s.name)
		s.named(s.name, ref+"=stopped lxc:"+s.name+"=stopped", false)
		s.remove(s.name)
		s.named(s.name, "lxc:"+s.name+"=stopped", false)
		s.named("", "", false)
		s.named("a\nb", "", false)
	}},
	{"the begin of two IDs is nobody's", func(s *suite) {
		digit := s.crowded()
		s.fails(s.guest(digit))
		s.named(digit, "", true)
		g := s.guest(digit)
		g.Awaited = true
		s.gone(g)
	}},
	{"of a runtime that cannot be asked nothing is known", func(s *suite) {
		at := s.run(s.name).Guest
		s.Keeper.Twin(s.T, s.name)
		s.Keeper.Shut(s.T)
		s.fails(s.guest(s.name))
		s.fails(s.guest(s.name + "-none"))
		s.fails(at)
		at.Awaited = true
		s.fails(at)
		s.named(s.name, "lxc:"+s.name+"=stopped", true)
	}},
}

// crowded makes containers until two have an ID that begins with the same digit,
// and returns that.
func (s *suite) crowded() string {
	s.Helper()
	for i := range 17 {
		count := map[string]int{}
		for id := range s.ids {
			if count[id[:1]]++; count[id[:1]] > 1 {
				return id[:1]
			}
		}
		s.create(fmt.Sprint(s.name, "-", i))
	}
	s.Fatal("more than 16 digits")
	return ""
}
