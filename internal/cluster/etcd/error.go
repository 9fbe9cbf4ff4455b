package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sealane/sealane/internal/cluster"
)

// explain makes an error of a call one of a store.
func (s *Store) explain(ctx context.Context, op string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case s.ctx.Err() != nil:
		return fmt.Errorf("etcd %s: %s: %w: it was closed", s.name, op, cluster.ErrAway)
	case errors.Is(rpctypes.Error(err), rpctypes.ErrAuthFailed):
		s.repass()
	case strings.Contains(err.Error(), strangers):
		s.retrust()
	}
	name := s.name
	if a, ok := errors.AsType[*answer](err); ok && strings.Contains(name, ",") {
		name = a.of
	}
	return fmt.Errorf("etcd %s: %s: %w", name, op, s.kind(err))
}

// refusals are what etcd says when something has to be done about it, and what.
func (s *Store) refusals() []refusal {
	return []refusal{
		{rpctypes.ErrPermissionDenied, fmt.Sprintf("user %q may not do it: grant it a role (etcdctl user grant-role)", s.user)},
		{rpctypes.ErrUserEmpty, "it wants a user name and a password"},
		{rpctypes.ErrAuthFailed, fmt.Sprintf("user name %q or its password is wrong", s.user)},
		{rpctypes.ErrNoSpace, "its database is full: compact and defragment it, then etcdctl alarm disarm"},
	}
}

type refusal struct {
	err    error
	advice string
}

// strangers is what TLS says of a certificate that the CA has not signed.
const strangers = "certificate signed by unknown authority"

// tlsRefusals are the same of TLS, of which gRPC leaves only the text.
func tlsRefusals() []struct{ text, advice string } {
	return []struct{ text, advice string }{
		{strangers, "the CA file is not of who signed etcd's certificate"},
		{"first record does not look like a TLS handshake", "the endpoint is http://, not https://"},
		{"remote error: tls: bad certificate", "it takes a certificate of ours that its CA has signed"},
		{"remote error: tls: certificate required", "it takes a certificate of ours that its CA has signed"},
		{"remote error: tls: unknown certificate authority", "our certificate is not signed by its CA"},
		{"remote error: tls: expired certificate", "our certificate has expired, or clocks differ"},
		{"certificate has expired or is not yet valid", "etcd's certificate has expired, or clocks differ"},
		{"x509: certificate is", "etcd's certificate does not name the endpoint: use the name that it does"},
		{"x509: cannot validate certificate", "etcd's certificate does not name the endpoint: use the name that it does"},
		{"authentication handshake failed: tls:", "TLS does not come about"},
	}
}

// kind says what is wrong: ErrRefused with what would be right, ErrCompacted, ErrAway,
// or the error as it is.
func (s *Store) kind(err error) error {
	if a, ok := errors.AsType[*answer](err); ok {
		err = a.error
	}
	if errors.Is(err, cluster.ErrAway) || errors.Is(err, cluster.ErrCompacted) {
		return err
	}
	said := rpctypes.Error(err)
	for _, r := range s.refusals() {
		if errors.Is(said, r.err) {
			return fmt.Errorf("%w: %s: %s", cluster.ErrRefused, text(said), r.advice)
		}
	}
	for _, r := range tlsRefusals() {
		if strings.Contains(err.Error(), r.text) {
			return fmt.Errorf("%w: %s: %s", cluster.ErrRefused, text(err), r.advice)
		}
	}
	if errors.Is(said, rpctypes.ErrCompacted) {
		return cluster.ErrCompacted
	}
	switch code(err) {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.OutOfRange:
		return errors.New(text(err))
	case codes.PermissionDenied:
		return fmt.Errorf("%w: %s", cluster.ErrRefused, text(err))
	case codes.Unimplemented:
		return fmt.Errorf("%w: %s: this is no etcd of version 3", cluster.ErrRefused, text(err))
	case codes.DeadlineExceeded:
		return fmt.Errorf("%w: it takes too long", cluster.ErrAway)
	}
	if s.hungUp(err) {
		return fmt.Errorf("%w: %s: it takes a certificate of ours that its CA has signed", cluster.ErrRefused, text(err))
	}
	if strings.Contains(err.Error(), "authentication handshake failed: EOF") {
		return fmt.Errorf("%w: EOF in the TLS handshake (it may be coming or going, or the endpoint is http://)", cluster.ErrAway)
	}
	return fmt.Errorf("%w: %s", cluster.ErrAway, text(err))
}

// hungUp says whether a connection may have ended for our certificate: the member asked
// for one and nothing else was ever heard of it.
func (s *Store) hungUp(err error) bool {
	if !s.asked.Load() || s.lineage().cluster != 0 {
		return false
	}
	for _, words := range []string{"broken pipe", "connection reset", "error reading server preface"} {
		if strings.Contains(err.Error(), words) {
			return true
		}
	}
	return false
}

// code is the kind of error that gRPC or etcd say it is.
func code(err error) codes.Code {
	var e rpctypes.EtcdError
	switch {
	case errors.As(err, &e):
		return e.Code()
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	}
	return status.Code(err)
}

// text is what an error says, in one line, without the words that gRPC puts around.
func text(err error) string {
	t := err.Error()
	var e rpctypes.EtcdError
	if st, ok := status.FromError(err); ok && !errors.As(err, &e) {
		t = st.Message()
	}
	if _, desc, ok := strings.Cut(t, `connection error: desc = "`); ok {
		t = strings.TrimSuffix(strings.TrimSuffix(desc, `"`), `\`)
	}
	for _, words := range []string{"etcdserver: ", "transport: Error while dialing: ", "transport: authentication handshake failed: "} {
		t = strings.TrimPrefix(t, words)
	}
	return strings.Join(strings.Fields(t), " ")
}
