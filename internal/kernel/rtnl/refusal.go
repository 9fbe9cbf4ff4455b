package rtnl

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
)

// refusal is the kernel's no: an errno and often a sentence.
type refusal struct {
	errno  unix.Errno
	detail string
}

// Error is "sentence (errno)", or the errno's own text.
func (e *refusal) Error() string {
	if e.detail == "" {
		return e.errno.Error()
	}
	return fmt.Sprintf("%s (%s)", e.detail, e.errno)
}

// Unwrap returns the errno.
func (e *refusal) Unwrap() error { return e.errno }

// Is maps errnos to the causes that callers act on.
func (e *refusal) Is(target error) bool {
	switch e.errno {
	case unix.ENOENT, unix.EINVAL: // where traffic control is asked to remove
		return target == errAbsent
	case unix.ENODEV, unix.ESRCH, unix.ENXIO, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EADDRNOTAVAIL:
		return target == kernel.ErrMissing || target == errAbsent
	case unix.EEXIST, unix.EBUSY, unix.EADDRINUSE:
		return target == kernel.ErrInUse
	case unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT:
		return target == kernel.ErrUnsupported
	}
	return false
}

// answer returns what an NLMSG_ERROR or NLMSG_DONE says: nil for errno 0.
//
//	 0       4                20 (the whole request, unless NLM_F_CAPPED)
//	┌───────┬────────────────┬──────────────────────────────┐
//	│ errno │ request header │ extended acknowledgement      │
//	└───────┴────────────────┴──────────────────────────────┘
func answer(h header, body []byte) error {
	errno := -int32(u32(body))
	if errno == 0 {
		return nil
	}
	e := &refusal{errno: unix.Errno(errno)}
	tlvs := 4
	if h.typ == unix.NLMSG_ERROR {
		tlvs = 4 + unix.SizeofNlMsghdr
		if h.flags&unix.NLM_F_CAPPED == 0 && len(body) >= 8 {
			tlvs = 4 + align(int(u32(body[4:])))
		}
	}
	if h.flags&unix.NLM_F_ACK_TLVS != 0 && tlvs <= len(body) {
		attrs(body[tlvs:], func(typ uint16, data []byte) {
			if typ == unix.NLMSGERR_ATTR_MSG {
				e.detail = text(data)
			}
		})
	}
	return e
}
