package model

import (
	"slices"
	"strings"
)

// Plug is where an endpoint of a pipework command came from.
type Plug struct {
	Device  string `json:"device"`  // of the host, as the command has it
	Command string `json:"command"` // in one form for all ways to write it
}

// Same reports whether a command is p's, by whatever name either calls the container.
func (p Plug) Same(command string) bool {
	ours, i := p.words()
	theirs, j := Plug{Command: command}.words()
	if i == 0 || i != j {
		return p.Command == command
	}
	return slices.Equal(slices.Delete(ours, i, i+1), slices.Delete(theirs, j, j+1))
}

// For returns the command with the name that its container has by now.
func (p Plug) For(sb *Sandbox) string {
	words, i := p.words()
	if i == 0 || words[i] == sb.Name || strings.HasPrefix(words[i], "'") {
		return p.Command
	}
	if g := sb.Guest; g == nil || words[i] != g.Name {
		words[i] = CommandLine(sb.Reference())
	}
	return strings.Join(words, " ")
}

// words are the command's, with the place of the container among them: after the
// device and the options, each of which has a value. 0 is nowhere.
func (p Plug) words() ([]string, int) {
	words := strings.Split(p.Command, " ")
	for i := 1; i < len(words); i += 2 {
		if !strings.HasPrefix(words[i], "-") {
			return words, i
		}
	}
	return words, 0
}

// Reference is what a command calls the container: web or docker:web.
func (s *Sandbox) Reference() string {
	if s.Guest == nil {
		return s.Name
	}
	return s.Guest.String()
}

// CommandLine is words as a shell reads them.
func CommandLine(words ...string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@,+=%"
	quoted := slices.Clone(words)
	for i, w := range words {
		if w == "" || strings.Trim(w, plain) != "" {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// LabelPipework marks networks that a pipework command made. Its value is the
// device as the command had it. They go with their last endpoint.
const LabelPipework = "sealane.pipework"
