package rtnl

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
)

// beforeMain are the priorities of rules that the kernel asks before the one of the
// main table.
const beforeMain = 32766

// detour is a table of routes that is asked before the main one, for what no mark
// of its owner's says otherwise, as VPNs set them up.
type detour struct {
	table int
	is6   bool
}

// detours lists the routes of others in such tables, but for default ones.
func (s *socket) detours(ctx context.Context) ([]route, error) {
	request := func() *message { return newMessage(unix.RTM_GETRULE, 0).rule(unix.AF_UNSPEC, 0, 0) }
	to, err := dump(ctx, s, request, parseDetour)
	if errors.Is(err, kernel.ErrUnsupported) || err == nil && len(to) == 0 {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	all, err := s.listRoutes(ctx, unix.RT_TABLE_UNSPEC, unix.RTPROT_UNSPEC)
	return slices.DeleteFunc(all, func(r route) bool {
		return r.protocol == protocol || r.blackhole || r.dst.Bits() == 0 || !slices.Contains(to, detour{r.table, r.dst.Addr().Is6()})
	}), err
}

// parseDetour reads the body of an RTM_NEWRULE of others that is for all packets, or for
// all but those of a mark.
func parseDetour(b []byte) (detour, bool) {
	if len(b) < sizeofRuleHdr || b[0] != unix.AF_INET && b[0] != unix.AF_INET6 || b[1]|b[2]|b[3] != 0 || b[7] != ruleLooksUp {
		return detour{}, false
	}
	d, inverted, marked, priority, narrow := detour{is6: b[0] == unix.AF_INET6}, native.Uint32(b[8:])&ruleInvert != 0, false, 0, false
	attrs(b[sizeofRuleHdr:], func(typ uint16, v []byte) {
		switch typ {
		case unix.FRA_PRIORITY:
			priority = int(u32(v))
		case unix.FRA_TABLE:
			d.table = int(u32(v))
		case unix.FRA_FWMARK, unix.FRA_FWMASK:
			marked = true
		case unix.FRA_PROTOCOL:
			narrow = narrow || u8(v) == protocol
		case unix.FRA_SUPPRESS_PREFIXLEN, unix.FRA_SUPPRESS_IFGROUP:
			narrow = narrow || u32(v) != ^uint32(0) // none
		default:
			narrow = true
		}
	})
	return d, !narrow && marked == inverted && priority < beforeMain &&
		!slices.Contains([]int{0, unix.RT_TABLE_DEFAULT, unix.RT_TABLE_MAIN, unix.RT_TABLE_LOCAL}, d.table)
}
