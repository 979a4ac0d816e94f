package machine

import (
	"io"

	"vmm/memory"
	"vmm/trace"
)

// maxCells is how many pieces Touched has of a region at the most.
const maxCells = 512

// Touched is how much of a piece of RAM has memory of the host's behind it: what
// the guest, a device or the boot loader has touched.
type Touched struct {
	Start   trace.Hex `json:"start"`
	Size    uint64    `json:"size"`    // bytes
	Touched uint64    `json:"touched"` // bytes
	// Cells are the bytes touched of each piece of Cell bytes, of RAM as a whole;
	// not of Contents.
	Cell  uint64   `json:"cell,omitempty"`
	Cells []uint64 `json:"cells,omitempty"`
	// Name is what lay there at the start, of Contents.
	Name     string    `json:"name,omitempty"`
	Contents []Touched `json:"contents,omitempty"`
}

// Touched looks at all of RAM, a region at a time. It takes the host some 20 ns a
// page. pagemap is /proc/self/pagemap.
func (m *Machine) Touched(pagemap io.ReaderAt) ([]Touched, error) {
	var all []Touched
	places := m.entry.Places()
	for _, r := range m.memory.Regions() {
		cell := uint64(memory.PageSize)
		for r.Size/cell > maxCells {
			cell *= 2
		}
		t, err := m.touched(pagemap, r.Range, cell)
		if err != nil {
			return nil, err
		}
		for _, p := range places {
			if !r.Contains(p.Start, p.Size) {
				continue
			}
			start, end := p.Start&^(memory.PageSize-1), (p.End()+memory.PageSize-1)&^(memory.PageSize-1)
			part, err := m.touched(pagemap, memory.Range{Start: start, Size: min(end, r.End()) - start}, r.Size)
			if err != nil {
				return nil, err
			}
			t.Contents = append(t.Contents, Touched{
				Start: trace.Hex(p.Start), Size: p.Size, Touched: min(part.Touched, p.Size), Name: p.Name,
			})
		}
		all = append(all, t)
	}
	return all, nil
}

func (m *Machine) touched(pagemap io.ReaderAt, r memory.Range, cell uint64) (Touched, error) {
	t := Touched{Start: trace.Hex(r.Start), Size: r.Size, Cell: cell}
	pages, err := m.memory.Resident(pagemap, r.Start, r.Size, cell)
	for _, n := range pages {
		t.Cells = append(t.Cells, uint64(n)*memory.PageSize)
		t.Touched += uint64(n) * memory.PageSize
	}
	return t, err
}
