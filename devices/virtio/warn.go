package virtio

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// warned are the warnings that were given. A guest can cause each as often as it
// likes, and one tells as much as a thousand.
type warned struct {
	mu    sync.Mutex
	kinds map[string]*rate.Sometimes
}

// warnEvery is how often a warning may come again.
const warnEvery = time.Minute

// warn tells the user of something that a driver does wrong, or that leaves it
// without its device, and what comes of it. It is called by vCPUs and workers.
func (t *transport) warn(what string, args ...any) {
	t.warned.mu.Lock()
	defer t.warned.mu.Unlock()
	kind := t.warned.kinds[what]
	if kind == nil {
		if t.warned.kinds == nil {
			t.warned.kinds = map[string]*rate.Sometimes{}
		}
		kind = &rate.Sometimes{Interval: warnEvery}
		t.warned.kinds[what] = kind
	}
	kind.Do(func() { t.log.Warn(t.title()+": "+what, args...) })
}

// title is the device's name, for people.
func (t *transport) title() string {
	if t.name != "" {
		return t.name
	}
	return "virtio-" + t.info.Type.String()
}

// hex is a number as registers have it, for a log.
func hex[T ~uint32 | ~uint64](v T) string { return fmt.Sprintf("%#x", uint64(v)) }
