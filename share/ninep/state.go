package ninep

import (
	"bytes"
	"encoding/json"
	"fmt"

	"golang.org/x/sys/unix"

	"vmm/share"
)

// State is what a client and the server know of each other, as plain data.
type State struct {
	MSize uint32     `json:"msize"`
	FIDs  []FIDState `json:"fids"`
}

// FIDState is a fid. What cannot be found again, such as a file without a name or an
// extended attribute that is being written, has neither names nor flags.
type FIDState struct {
	Number uint32 `json:"number"`
	UID    uint32 `json:"uid"`
	// Found says that Names lead from the folder to the file, whose inode has this
	// number.
	Found bool     `json:"found"`
	Names []string `json:"names,omitempty"`
	Inode uint64   `json:"inode,omitempty"`
	// Open says that the file was opened, with Flags.
	Open  bool `json:"open,omitempty"`
	Flags int  `json:"flags,omitempty"`
}

// State is that of a server that answers nothing at the moment.
func (s *Server) State() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := State{MSize: s.session.msize}
	for number, f := range s.session.all {
		state.FIDs = append(state.FIDs, f.state(number))
	}
	return state
}

func (f *fid) state(number uint32) FIDState {
	lost := FIDState{Number: number, UID: f.uid}
	if f.attr != nil || f.node == nil {
		return lost
	}
	names, err := f.node.Names()
	if err != nil {
		return lost
	}
	st, err := f.node.Stat()
	if err != nil {
		return lost
	}
	found := FIDState{Number: number, UID: f.uid, Found: true, Names: names, Inode: st.Ino}
	if f.file != nil {
		if found.Flags, err = f.file.Flags(); err != nil {
			return lost
		}
		found.Open = true
	}
	return found
}

// maxSteps is how far below the folder a file may be: PATH_MAX in steps.
const maxSteps = 2048

// SetState has a new server go on with what the client knows of another. Files are
// opened anew by their names; one that is not there, or is another by now, is stale: the
// client gets ESTALE until it lets go of it. Locks are gone.
func (s *Server) SetState(data json.RawMessage) error {
	var state State
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&state); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if state.MSize < minMessage || state.MSize > maxMessage {
		return fmt.Errorf("msize: %d is not between %d and %d", state.MSize, minMessage, maxMessage)
	}
	s.begin(state.MSize)
	for _, f := range state.FIDs {
		restored, err := s.restore(f)
		if err != nil {
			restored = &fid{uid: f.UID, stale: true}
		}
		if err := s.session.add(f.Number, newFID(restored)); err != nil {
			return fmt.Errorf("fids: %d is there twice, or none", f.Number)
		}
	}
	return nil
}

// restore opens a file again.
func (s *Server) restore(f FIDState) (*fid, error) {
	if !f.Found || len(f.Names) > maxSteps {
		return nil, unix.ESTALE
	}
	root, err := s.folder.Root()
	if err != nil {
		return nil, err
	}
	node, _, err := walk(root, f.Names)
	root.Close()
	if err != nil {
		return nil, err
	}
	if node == nil {
		return nil, unix.ESTALE
	}
	if st, err := node.Stat(); err != nil || st.Ino != f.Inode {
		node.Close()
		return nil, unix.ESTALE
	}
	if !f.Open {
		return &fid{node: node, uid: f.UID}, nil
	}
	defer node.Close()
	var file *share.File
	if file, _, err = node.Open(f.Flags &^ unix.O_TRUNC); err != nil {
		return nil, err
	}
	return &fid{node: file.Node, file: file, uid: f.UID}, nil
}
