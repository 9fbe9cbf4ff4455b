package pipework

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/sealane/sealane/internal/api"
)

// inside runs a command of ip or tc in a container, or those of a file.
func (c Console) inside(ctx context.Context, client *api.Client, cmd *command) (int, error) {
	name, rest, ok := batch(cmd.args)
	if !ok {
		return c.one(ctx, client, cmd, cmd.args)
	}
	text, err := c.read(name)
	if err != nil {
		if failed, ok := errors.AsType[*fs.PathError](err); ok {
			err = failed.Err
		}
		return 1, failf("Cannot open file %q for reading: %v", name, err)
	}
	lines := batchLines(text)
	if cmd.undone {
		slices.Reverse(lines)
	}
	force := slices.Contains(rest, "-force")
	status := 0
	for _, l := range lines {
		code, err := c.one(ctx, client, cmd, slices.Concat(rest, l.words))
		if err != nil {
			return code, err
		}
		if code != 0 {
			status = 1
			fmt.Fprintf(c.Err, "Command failed %s:%d\n", name, l.number)
			if !force {
				break
			}
		}
	}
	return status, nil
}

func (c Console) one(ctx context.Context, client *api.Client, cmd *command, args []string) (int, error) {
	var ran api.Ran
	err := running(ctx, func() (err error) {
		ran, err = client.Run(ctx, api.Chore{Container: cmd.guest, Args: args, Undo: cmd.undone})
		return err
	})
	io.WriteString(c.Out, ran.Stdout)
	io.WriteString(c.Err, ran.Stderr)
	return ran.Code, err
}

// batch finds the file of commands that tc is to run, - for the standard input, and
// returns the command without it. Its lines are commands of their own: each is kept
// and taken back by itself.
func batch(args []string) (name string, rest []string, ok bool) {
	for i := 1; i+1 < len(args) && args[0] == "tc" && strings.HasPrefix(args[i], "-"); i++ {
		if len(args[i]) > 1 && strings.HasPrefix("-batch", args[i]) {
			return args[i+1], slices.Concat(args[:i], args[i+2:]), true
		}
	}
	return "", nil, false
}

func (c Console) read(name string) (string, error) {
	if name == "-" && c.In != nil {
		text, err := io.ReadAll(c.In)
		return string(text), err
	}
	text, err := os.ReadFile(name)
	return string(text), err
}

// batchLine is a command of a file of them.
type batchLine struct {
	number int // of its last line
	words  []string
}

// batchLines reads a file as tc does: a backslash at its end continues a line, # begins
// a comment, and quotes keep words together (getcmdline and makeargs in iproute2's
// lib/utils.c).
func batchLines(text string) []batchLine {
	var out []batchLine
	joined := ""
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		if more, continued := strings.CutSuffix(line, "\\"); continued {
			joined += more
			continue
		}
		if words := batchWords(joined + line); len(words) > 0 {
			out = append(out, batchLine{i + 1, words})
		}
		joined = ""
	}
	return out
}

func batchWords(line string) []string {
	var words []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		var word string
		if quote := line[:1]; quote == "'" || quote == `"` {
			word, line, _ = strings.Cut(line[1:], quote)
		} else if end := strings.IndexFunc(line, unicode.IsSpace); end > 0 {
			word, line = line[:end], line[end:]
		} else {
			word, line = line, ""
		}
		words = append(words, word)
	}
	return words
}
