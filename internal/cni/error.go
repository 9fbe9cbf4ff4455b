package cni

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/sealane/sealane/internal/model"
)

// The specification's error codes.
const (
	codeVersion     = types.ErrIncompatibleCNIVersion
	codeField       = types.ErrUnsupportedField
	codeContainer   = types.ErrUnknownContainer
	codeEnvironment = types.ErrInvalidEnvironmentVariables
	codeIO          = types.ErrIOFailure
	codeDecode      = types.ErrDecodingFailure
	codeConfig      = types.ErrInvalidNetworkConfig
	codeLater       = types.ErrTryAgainLater
	codeUnavailable = uint(50) // ADD would not work
	codeLimited     = uint(51) // nor do all containers that are there
	codeInternal    = types.ErrInternal
)

// Our own error codes, from 100.
const (
	codeConflict    = uint(100) // taken by another: an interface name, an address, a port, a subnet
	codeInUse       = uint(101) // cannot be removed while something uses it
	codeExhausted   = uint(102) // no address or port is left
	codeUnsupported = uint(103) // this kernel cannot do it
	codeDenied      = uint(104) // not allowed
	codeDiffers     = uint(105) // CHECK: something is not as ADD left it
)

// codes is the one table from the daemon's kinds of error to codes.
var codes = map[model.Kind]uint{
	model.Invalid:     codeConfig,
	model.NotFound:    codeContainer,
	model.Gone:        codeContainer,
	model.Conflict:    codeConflict,
	model.InUse:       codeInUse,
	model.Exhausted:   codeExhausted,
	model.Unsupported: codeUnsupported,
	model.Denied:      codeDenied,
	model.Internal:    codeInternal,
}

// coded is an error with its code.
type coded struct {
	code uint
	err  error
}

func (e *coded) Error() string { return e.err.Error() }
func (e *coded) Unwrap() error { return e.err }

func errorf(code uint, format string, args ...any) error {
	return &coded{code, fmt.Errorf(format, args...)}
}

// codeOf returns the code of an error. What is neither ours nor the daemon's
// answer means that there was none: it is away, starting or slow.
func codeOf(err error) uint {
	if e, ok := errors.AsType[*coded](err); ok {
		return e.code
	}
	if e, ok := errors.AsType[*model.Error](err); ok {
		if code, known := codes[e.Kind]; known {
			return code
		}
		return codeInternal
	}
	return codeLater
}

// gone reports whether the daemon says that something is not there.
func gone(err error) bool {
	e, ok := errors.AsType[*model.Error](err)
	return ok && e.Kind == model.NotFound
}

// taken reports whether the daemon says that something is another's.
func taken(err error) bool {
	e, ok := errors.AsType[*model.Error](err)
	return ok && e.Kind == model.Conflict
}

// errorAnswer is the specification's error object.
type errorAnswer struct {
	Version string `json:"cniVersion"`
	Code    uint   `json:"code"`
	Message string `json:"msg"`
}

func describe(spoken string, err error) errorAnswer {
	return errorAnswer{spoken, codeOf(err), strings.Join(model.Lines(err), "; ")}
}
