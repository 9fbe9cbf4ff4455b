package member

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"time"
)

// tokenLife is how long a token lets hosts in.
const tokenLife = 24 * time.Hour

// Token is what a host needs to join a cluster. Its text is
//
//	slt1. base64url( SHA-256 of the CA's public key, 32 bytes ║ secret, 16 bytes )
//
// The first half says whom to trust, the second is what the cluster trusts.
type Token struct {
	pin    [sha256.Size]byte
	secret [16]byte
}

const tokenForm = "slt1."

func newToken(ca *x509.Certificate) (t Token, err error) {
	t.pin = pin(ca)
	_, err = rand.Read(t.secret[:])
	return t, err
}

// Text is what people pass on. It is a secret.
func (t Token) Text() string {
	return tokenForm + base64.RawURLEncoding.EncodeToString(append(t.pin[:], t.secret[:]...))
}

// String hides the token from logs.
func (t Token) String() string { return "(a token)" }

// ParseToken reads a token's text. Its errors do not repeat it.
func ParseToken(text string) (t Token, err error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(text), tokenForm)
	b, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if !ok || err != nil || len(b) != len(t.pin)+len(t.secret) {
		return t, errors.New("token: not one that sealane cluster init or token prints")
	}
	copy(t.pin[:], b)
	copy(t.secret[:], b[len(t.pin):])
	return t, nil
}

// admission is what a cluster keeps of its token.
type admission struct {
	Hash    string    `json:"hash"` // SHA-256 of the secret, in hex
	Expires time.Time `json:"expires"`
}

func admit(t Token, now time.Time) admission {
	return admission{secretHash(t.secret[:]), now.Add(tokenLife).UTC()}
}

func secretHash(secret []byte) string {
	sum := sha256.Sum256(secret)
	return hex.EncodeToString(sum[:])
}

// errToken is all that is said to who has the wrong one.
var errToken = errors.New("token: refused: it has expired or was replaced: sealane cluster token --rotate, on a host of the cluster, makes another")

// check says whether a secret lets a host in.
func (a admission) check(secret []byte, now time.Time) error {
	if subtle.ConstantTimeCompare([]byte(secretHash(secret)), []byte(a.Hash)) != 1 || !now.Before(a.Expires) {
		return errToken
	}
	return nil
}
