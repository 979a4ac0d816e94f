package boot

import (
	"fmt"
	"strings"
)

// defaultMaxCmdline is how long a command line may be where the image does not
// say: COMMAND_LINE_SIZE of arch/x86/include/asm/setup.h without the final NUL.
const defaultMaxCmdline = 2047

func (img *Image) maxCmdline() int {
	if img.Header == nil {
		return defaultMaxCmdline
	}
	// Whatever the header says, it has to fit between its usual place and the
	// end of low memory.
	return int(min(img.Header.maxCmdline(), lowMemoryEnd-cmdlineAddr-1))
}

func checkCmdline(s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("the kernel command line has %d characters and this kernel takes %d at most; shorten --cmdline or --append", len(s), limit)
	}
	if i := strings.IndexAny(s, "\x00\n"); i >= 0 {
		return fmt.Errorf("the kernel command line has %q at character %d; remove it", s[i], i)
	}
	return nil
}
