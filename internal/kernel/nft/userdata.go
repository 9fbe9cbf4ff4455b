package nft

import (
	"fmt"
	"strings"
)

// A rule in the kernel is expressions; its text is in its userdata, 256 bytes
// that the kernel keeps for whoever made the rule. They hold attributes of one
// byte type, one byte length; nft ignores types it does not know
// (libnftnl, src/udata.c):
//
//	| 0 | n | comment …0 |     as nft writes it, if there is one
//	| 94 | n | v | body … |    the text without the comment
//
// v is the version of the compiler. A rule that was compiled by another
// version, or has no such attribute, was not made by us as we are: it shows as
// a text that no rule of ours has, so that the difference replaces its chain.
//
// Nobody makes a rule with our text and other expressions by accident; who
// does so on purpose may as well remove the table.
const (
	udataComment = 0
	udataText    = 0x5e
	version      = 1
	maxUserdata  = 256 // NFT_USERDATA_MAXLEN
)

func encodeUserdata(text, comment string) ([]byte, error) {
	var b []byte
	body := text
	if comment != "" {
		body = strings.TrimSuffix(text, commentText(comment))
		b = append(b, udataComment, byte(len(comment)+1))
		b = append(append(b, comment...), 0)
	}
	// An attribute's length is a byte, of which the version takes one. So short
	// a text cannot have more expressions than a rule may (NFT_RULE_MAXEXPRS).
	if room := min(maxUserdata-len(b)-3, 254); len(body) > room {
		return nil, fmt.Errorf("%d bytes, at most %d fit", len(body), room)
	}
	b = append(b, udataText, byte(len(body)+1), version)
	return append(b, body...), nil
}

// commentIn returns the comment in a rule's userdata, "" if there is none.
func commentIn(b []byte) string {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		end := 2 + int(b[1])
		if b[0] == udataComment {
			return text(b[2:end])
		}
		b = b[end:]
	}
	return ""
}

// decodeUserdata returns a rule's text, false if it is not of ours.
func decodeUserdata(b []byte) (string, bool) {
	body, comment, ours := "", "", false
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		end := 2 + int(b[1])
		value := b[2:end]
		switch {
		case b[0] == udataText && len(value) > 1 && value[0] == version:
			body, ours = string(value[1:]), true
		case b[0] == udataComment && len(value) > 1:
			comment = commentText(text(value))
		}
		b = b[end:]
	}
	return body + comment, ours
}
