package server

import (
	"net/http"
	"time"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/kernel/uplink"
)

func (s *service) uplinks(r *http.Request, _ none) ([]api.Uplink, error) {
	all, err := s.engine.Uplinks(r.Context())
	if err != nil {
		return nil, err
	}
	list := []api.Uplink{}
	for _, u := range all {
		list = append(list, api.Uplink{
			NIC: u.NIC, Bridge: u.Bridge, Made: u.Made, Addresses: present(u.Addresses), Created: u.Created, Status: statusOf(u.Status),
		})
	}
	return list, nil
}

func (s *service) attachUplink(r *http.Request, req api.UplinkSpec) (api.Moved, error) {
	timeout, err := patience(req.Timeout, "uplink "+req.NIC, "attach")
	if err != nil {
		return api.Moved{}, err
	}
	u, rep, err := s.engine.AttachUplink(r.Context(), engine.UplinkSpec{NIC: req.NIC, Bridge: req.Bridge, Timeout: timeout})
	if err != nil {
		return api.Moved{}, err
	}
	return movedOf(u.NIC, u.Bridge, rep), nil
}

func (s *service) detachUplink(r *http.Request, req api.UplinkDetach) (api.Moved, error) {
	nic := r.PathValue("ref")
	timeout, err := patience(req.Timeout, "uplink "+nic, "detach")
	if err != nil {
		return api.Moved{}, err
	}
	bridge, rep, err := s.engine.DetachUplink(r.Context(), nic, timeout)
	if err != nil {
		return api.Moved{}, err
	}
	return movedOf(nic, bridge, rep), nil
}

// maxPatience is the longest that gateways may be waited for, in milliseconds: a host
// that nobody reaches should not stay so.
const maxPatience = 5 * 60 * 1000

func patience(ms int, ref, op string) (time.Duration, error) {
	if ms < 0 || ms > maxPatience {
		return 0, invalid(ref, op, "timeout %d: want up to %d milliseconds", ms, maxPatience)
	}
	return time.Duration(ms) * time.Millisecond, nil
}

func movedOf(nic, bridge string, rep uplink.Report) api.Moved {
	return api.Moved{
		NIC: nic, Bridge: bridge, Made: rep.Made, Addresses: present(rep.Addresses), Routes: rep.Routes,
		Answering: present(rep.Answering), Warnings: present(rep.Warnings),
	}
}
