package uplink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// phase is how far a move has come.
//
//	(none) ──▶ attaching ──▶ attached ──▶ detaching ──▶ (leaving) ──▶ (none)
//	   ◀── taken back ──┘        ◀── taken back ──┘
//
// It is leaving while Open vSwitch does not run, which would take the NIC when it starts.
type phase string

const (
	attaching phase = "attaching"
	attached  phase = "attached"
	detaching phase = "detaching"
	leaving   phase = "leaving"
)

// record is what must be known to take a move back. It is on disk before the first
// change. One that says attached is the mark of what is ours.
type record struct {
	Phase phase  `json:"phase"`
	Boot  string `json:"boot"` // see bootID
	Move
	Made   bool  `json:"made,omitempty"`   // the bridge, by us
	Switch bool  `json:"switch,omitempty"` // the bridge is of Open vSwitch
	Port   side  `json:"port"`             // the NIC before
	On     side  `json:"on"`               // the bridge before
	Moved  items `json:"moved"`            // what the attach moved; while detaching, what goes back
	Prior  items `json:"prior"`            // what was moved before this attach began
	Again  bool  `json:"again,omitempty"`  // it was attached before this attach began
}

// side is a device before it was changed.
type side struct {
	Index    int               `json:"index,omitempty"`
	MAC      []byte            `json:"mac,omitempty"`
	MTU      int               `json:"mtu,omitempty"`
	Up       bool              `json:"up,omitempty"`
	Settings map[string]string `json:"settings,omitempty"`
	Merging  map[string]bool   `json:"merging,omitempty"` // features of the NIC, if it has to stop; see mergers
	Items    items             `json:"items"`
}

const (
	suffix   = ".json"
	lockFile = "lock"
)

func (d Dir) path(nic string) string { return filepath.Join(string(d), nic+suffix) }

// save puts a record on disk, whole or not at all.
func (d Dir) save(r *record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	tmp := d.path(r.NIC) + ".new"
	if err := writeSynced(tmp, b); err != nil {
		return err
	}
	if err := os.Rename(tmp, d.path(r.NIC)); err != nil {
		return err
	}
	return d.sync()
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// sync has the names in the directory be on disk.
func (d Dir) sync() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// drop removes a record.
func (d Dir) drop(nic string) error {
	if err := os.Remove(d.path(nic)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.sync()
}

// load returns the record of a NIC, or nil.
func (d Dir) load(nic string) (*record, error) {
	b, err := os.ReadFile(d.path(nic))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := &record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", d.path(nic), err)
	}
	return r, nil
}

// all returns all records, by name of their NICs.
func (d Dir) all() ([]*record, error) {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []*record
	for _, e := range entries {
		nic, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok {
			continue
		}
		r, err := d.load(nic)
		if err != nil {
			return nil, err
		}
		if r != nil {
			out = append(out, r)
		}
	}
	return out, nil
}

// bootID tells this run of the machine from others: of what was done in an earlier
// one nothing is left.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// errBusy: another move is under way.
var errBusy = errors.New("another attach or detach is under way")

// make makes the directory, and the file to lock.
func (d Dir) make() error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(string(d), lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// dying is how long a process that was killed may take to end, and to let go of what
// it holds.
const dying = 300 * time.Millisecond

// lock takes the lock that who moves something holds, and returns what gives it
// back, as the end of the process does. One that is held is waited for a moment:
// its holder may have been killed just now.
func (d Dir) lock() (unlock func(), err error) {
	if err := d.make(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(string(d), lockFile), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(dying); ; time.Sleep(time.Millisecond) {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return func() { f.Close() }, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			f.Close()
			return nil, err
		case time.Now().After(end):
			f.Close()
			return nil, errBusy
		}
	}
}
