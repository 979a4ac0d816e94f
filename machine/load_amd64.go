package machine

import (
	"crypto/rand"
	"time"

	"vmm/boot"
	"vmm/boot/cache"
)

// kernel is a kernel that is being loaded.
type kernel struct {
	done    chan struct{} // closed when it is
	loaded  *boot.Loaded
	cmdline string       // before devices add to it
	linux   bool         // it is known to be Linux
	cache   *cache.Cache // nil for none
	err     error
}

// load begins to load kernel and initrd. It goes on while KVM makes the rest of the
// machine: each takes milliseconds, and neither needs the other.
func (m *Machine) load(cfg Config) *kernel {
	k := &kernel{done: make(chan struct{})}
	go func() {
		defer close(k.done)
		start := time.Now()
		k.err = m.loadKernel(cfg, k)
		m.log.Debug("kernel and initrd in memory", "took", time.Since(start))
	}()
	m.settle = func() {
		<-k.done
		if k.cache != nil {
			k.cache.Wait()
		}
	}
	// Memory is not taken away before that has ended.
	m.closers = append(m.closers, func() error {
		<-k.done
		if k.cache != nil {
			k.cache.Close()
		}
		return nil
	})
	return k
}

func (m *Machine) loadKernel(cfg Config, k *kernel) error {
	img, err := boot.Open(cfg.Kernel)
	if err != nil {
		return err
	}
	defer img.Close()
	protocol, err := img.Choose(cfg.Protocol)
	if err != nil {
		return err
	}
	k.cmdline, k.linux = cfg.cmdline(protocol), img.IsLinux()
	initrd, file, err := cfg.openInitrd()
	if err != nil {
		return err
	}
	if file != nil {
		defer file.Close()
	}
	modules, closeModules, err := cfg.openModules()
	if err != nil {
		return err
	}
	defer closeModules()
	p := boot.Params{
		Modules:  modules,
		Protocol: protocol, Initrd: initrd, KASLR: cfg.KASLR, Cmdline: k.cmdline, Random: rand.Reader, Log: m.log,
	}
	if c := m.openCache(cfg); c != nil {
		k.cache = c
		p.Unpack = c.Unpack
		if cfg.ShareKernel {
			p.Unpack = c.ShareKernel
			if img.Format != boot.BzImage { // there is nothing to unpack
				if img, err = c.ShareFile(img); err != nil {
					return err
				}
				defer img.Close()
			}
			if initrd != nil {
				sealed, err := c.ShareInitrd(initrd, file)
				if err != nil {
					return err
				}
				defer sealed.Close()
			}
		}
	}
	k.loaded, err = img.Load(m.memory, p)
	return err
}

// openCache opens the cache of kernels; nil where there is none.
func (m *Machine) openCache(cfg Config) *cache.Cache {
	if cfg.Cache == "" {
		return nil
	}
	c, err := cache.Open(cfg.Cache, cache.DefaultLimit, m.log)
	if err != nil {
		m.log.Debug("no cache of kernels", "error", err)
		return nil
	}
	return c
}

// enterKernel tells the kernel of its machine, once it is loaded.
func (m *Machine) enterKernel(k *kernel) (boot.Entry, error) {
	<-k.done
	if k.err != nil {
		return boot.Entry{}, k.err
	}
	entry, err := k.loaded.Enter(m.cmdline(k.cmdline, k.linux), boot.FirmwareAddr)
	if err != nil {
		return boot.Entry{}, err
	}
	m.log.Debug("kernel loaded", "entry", entry)
	return entry, nil
}
